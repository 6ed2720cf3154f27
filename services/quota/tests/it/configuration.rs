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
        "quota.rebuild.window",
        "quota.memory.max_megabytes",
        "quota.windows.buckets",
        "quota.settlements.batch",
    ];
    assert_eq!(paths, expected);
}
