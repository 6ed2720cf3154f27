use std::time::Duration;

use weir_config::Validate as _;

use weir_quota::config::StoreKind;

use crate::house::settings;

#[test]
fn the_defaults_are_valid() {
    let mut problems = Vec::new();
    settings().quota.validate("quota", &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut config = settings().quota;
    config.rebuild.window = Duration::ZERO;
    config.settlements.batch = 0;
    config.windows.buckets = 1;
    config.store = StoreKind::Memory;
    config.memory.max_megabytes = 0;
    let mut problems = Vec::new();
    config.validate("quota", &mut problems);
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let expected = [
        "quota.rebuild.window",
        "quota.slices.lease",
        "quota.rebuild.window",
        "quota.memory.max_megabytes",
        "quota.windows.buckets",
        "quota.settlements.batch",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn what_is_wrong_with_limits_across_tenants_is_said() {
    let text = "
        [[shared]]
        name = 'a b'
        scope = 'product'
        value = 'x'
        unit = 'nano_usd'
        amount = 5
        window = { rolling = '60s', concurrent = true }
        on_failure = 'open'
        [[shared]]
        name = 'at-once'
        scope = 'provider'
        unit = 'request'
        amount = -1
        window = { concurrent = true }
        alert_percents = [80, 50]
        [[shared]]
        name = 'at-once'
        scope = 'plan'
        unit = 'request'
        amount = 1
        window = { calendar = 'day', time_zone = 'Mars/North' }
        [[shared]]
        name = 'seats'
        scope = 'plan'
        unit = 'concurrent'
        amount = 1
        window = { concurrent = true }
        on_failure = 'local'
    ";
    let mut config = crate::shared::shared(text).quota;
    config.slices.lease = Duration::from_secs(60);
    let mut problems = Vec::new();
    config.validate("quota", &mut problems);
    let said: Vec<String> = problems.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
    assert_eq!(
        said,
        [
            "quota.slices.lease: old slices would be given out after a loss has been rebuilt",
            "quota.shared.0.name: must have 1 to 63 letters, digits, `-`, `_` or `.`",
            "quota.shared.0.value: the whole product has no value",
            "quota.shared.0.amount: must be a text with a sum in US dollars, such as \"2500.00\"",
            "quota.shared.0.window: needs exactly one of rolling, calendar, concurrent = true",
            "quota.shared.0.on_failure: money is never open: `closed` or `local`",
            "quota.shared.1.amount: must be from 0 to 2^53 - 1",
            "quota.shared.1.alert_percents: must be at most 10 rising percentages from 1 to 100, such as [50, 80, 100]",
            "quota.shared.2.name: `at-once` occurs twice",
            "quota.shared.2.window: time_zone: `Mars/North` is not known",
            "quota.shared.3.on_failure: concurrency has no slices: `closed` or `open`",
        ]
    );
}
