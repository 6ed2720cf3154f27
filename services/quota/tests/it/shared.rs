//! Limits across tenants hold exactly, over any number of quota processes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_quota::config::SharedLimit;
use weir_types::OrganizationId;

use crate::billing::{lifetime, limit};
use crate::house::{
    Client, Engine, House, Settings, balance, commit, extension, open, release, reserve, settings, storm,
};

/// Limits across tenants from their configuration.
pub(crate) fn shared(text: &str) -> Settings {
    #[derive(serde::Deserialize)]
    struct List {
        shared: Vec<SharedLimit>,
    }
    let mut settings = settings();
    settings.quota.shared = toml::from_str::<List>(text).unwrap().shared;
    settings
}

pub(crate) fn one(name: &str, scope: &str, unit: &str, amount: &str, window: &str) -> String {
    format!(
        "[[shared]]\nname = '{name}'\nscope = '{scope}'\nunit = '{unit}'\namount = {amount}\nwindow = {{ {window} }}\n"
    )
}

pub(crate) async fn engines(house: &House, count: usize, text: &str) -> Vec<Engine> {
    let mut engines = Vec::new();
    for _ in 0..count {
        engines.push(house.engine_with(shared(text)).await);
    }
    engines
}

pub(crate) fn all(engines: &[Engine]) -> Vec<&Engine> {
    engines.iter().collect()
}

/// With a label.
pub(crate) fn labelled(mut request: ReserveRequest, name: &str, value: &str) -> ReserveRequest {
    request.subject.as_mut().unwrap().labels.insert(name.to_owned(), value.to_owned());
    request
}

/// Reserves `amount` of a unit for each of `clients` at once; answers those that were admitted.
async fn rush(
    engines: &[Engine],
    tenants: &[OrganizationId],
    clients: usize,
    amounts: &[(&str, i64)],
) -> Vec<(ReserveRequest, ReserveResponse)> {
    let answers = storm(&all(engines), clients, async |mut client: Client, number| {
        let request = reserve(tenants[number % tenants.len()], amounts);
        (request.clone(), open(client.reserve(request).await))
    })
    .await;
    let mut admitted = Vec::new();
    for (request, answer) in answers {
        match answer {
            Ok(handle) => admitted.push((request, handle)),
            Err(failure) => {
                let reason = failure.reason();
                let refused = matches!(reason, ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted);
                assert!(refused, "{failure}");
            }
        }
    }
    admitted
}

pub(crate) async fn exactly_n_pass(count: usize, runs: usize, unit: &str, window: &str, fits: i64, price: i64) {
    let house = House::new().await;
    for run in 0..runs {
        let amount = if unit == "nano_usd" {
            format!("'{}'", weir_types::NanoUsd(fits * price).to_string().trim_start_matches('$'))
        } else {
            (fits * price).to_string()
        };
        let text = one(&format!("all-{run}"), "product", unit, &amount, window);
        let engines = engines(&house, count, &text).await;
        let tenants: Vec<_> = (0..7).map(|_| house.tenant(Vec::new())).collect();
        let admitted = rush(&engines, &tenants, 200, &[(unit, price)]).await;
        assert_eq!(i64::try_from(admitted.len()).unwrap(), fits, "run {run} over {count} processes");
        assert_eq!(rush(&engines, &tenants, 20, &[(unit, price)]).await.len(), 0, "not one more");
        for engine in &engines {
            engine.stop().await;
        }
    }
}

#[tokio::test]
async fn a_rate_that_fits_exactly_n_admits_exactly_n_over_one_process() {
    exactly_n_pass(1, 5, "request", "rolling = '60s'", 40, 1).await;
}

#[tokio::test]
async fn a_rate_that_fits_exactly_n_admits_exactly_n_over_two_processes() {
    exactly_n_pass(2, 5, "request", "rolling = '60s'", 40, 1).await;
}

#[tokio::test]
async fn a_rate_in_buckets_admits_exactly_n_over_four_processes() {
    exactly_n_pass(4, 3, "token", "rolling = '60s'", 99, 7).await;
}

#[tokio::test]
async fn a_budget_that_fits_exactly_n_admits_exactly_n_over_four_processes() {
    exactly_n_pass(4, 3, "nano_usd", "calendar = 'month'", 150, 1_000_003).await;
}

#[tokio::test]
async fn a_sum_of_a_day_admits_exactly_n_over_two_processes() {
    exactly_n_pass(2, 3, "image", "calendar = 'day', time_zone = 'Asia/Kolkata'", 33, 3).await;
}

#[tokio::test]
async fn seats_that_fit_exactly_n_admit_exactly_n_over_four_processes() {
    exactly_n_pass(4, 3, "concurrent", "concurrent = true", 25, 1).await;
}

#[tokio::test]
async fn different_amounts_leave_no_room_that_one_of_them_fits_into() {
    let house = House::new().await;
    let text = one("tokens", "product", "token", "1000", "rolling = '60s'");
    let engines = engines(&house, 3, &text).await;
    let tenants: Vec<_> = (0..5).map(|_| house.tenant(Vec::new())).collect();
    let answers = storm(&all(&engines), 120, async |mut client: Client, number| {
        let amount = i64::try_from(number % 17 + 1).unwrap();
        (amount, open(client.reserve(reserve(tenants[number % 5], &[("token", amount)])).await).is_ok())
    })
    .await;
    let used: i64 = answers.iter().filter(|(_, admitted)| *admitted).map(|(amount, _)| amount).sum();
    assert!(used <= 1_000, "{used}");
    let least = answers.iter().filter(|(_, admitted)| !admitted).map(|(amount, _)| *amount).min();
    assert!(least.is_none_or(|least| used + least > 1_000 - 17), "{used} used, {least:?} refused");
    // What is left fits, wherever it is asked for.
    for engine in &engines {
        let mut client = engine.client();
        while client.reserve(reserve(tenants[0], &[("token", 1)])).await.is_ok() {}
        let left = balance(&mut client, tenants[0], "tokens").await;
        assert_eq!(left.used, 1_000, "{left:?}");
    }
}

#[tokio::test]
async fn what_a_tenants_own_limit_refuses_is_there_for_others() {
    let house = House::new().await;
    let text = one("all", "product", "request", "30", "rolling = '60s'")
        + &one("at-once", "product", "concurrent", "30", "concurrent = true");
    let engines = engines(&house, 2, &text).await;
    let full = house.tenant(vec![limit("none", "organization", "request", 0, lifetime())]);
    let free = house.tenant(Vec::new());
    // Of 200 at once, 150 are refused by their own tenant's limit; they must not keep the others out.
    let admitted = storm(&all(&engines), 200, async |mut client: Client, number| {
        let tenant = if number % 4 == 0 { free } else { full };
        let answer = open(client.reserve(reserve(tenant, &[("request", 1), ("concurrent", 1)])).await);
        if let Err(failure) = &answer {
            assert_eq!(failure.reason(), ErrorReason::QuotaExceeded, "{failure}");
        }
        answer.is_ok()
    })
    .await;
    assert_eq!(admitted.iter().filter(|admitted| **admitted).count(), 30);
}

#[tokio::test]
async fn each_value_has_its_own_counter_and_named_ones_leave_others_alone() {
    let house = House::new().await;
    let keys = one("keys", "provider_key", "request", "3", "rolling = '60s'");
    let openai = one("openai", "provider", "request", "5", "rolling = '60s'") + "value = 'openai'\n";
    let plan = one("plan", "plan", "request", "20", "rolling = '60s'");
    let engines = engines(&house, 2, &(keys + &openai + &plan)).await;
    let tenants = [house.tenant(Vec::new()), house.tenant(Vec::new())];
    let (mut a, mut b) = (engines[0].client(), engines[1].client());
    let request = |tenant, provider: &str, key: &str| {
        labelled(labelled(reserve(tenant, &[("request", 1)]), "provider", provider), "provider_key", key)
    };
    for _ in 0..3 {
        a.reserve(request(tenants[0], "openai", "a")).await.unwrap();
    }
    let failure = open(b.reserve(request(tenants[1], "openai", "a")).await).unwrap_err();
    assert!(
        failure.metadata("limit.keys").unwrap().starts_with("scope=provider_key;unit=request;cap=3;used=3"),
        "{failure}"
    );
    for _ in 0..2 {
        b.reserve(request(tenants[1], "openai", "b")).await.unwrap();
    }
    let failure = open(a.reserve(request(tenants[0], "openai", "b")).await).unwrap_err();
    assert!(failure.metadata("limit.openai").is_some() && failure.metadata("limit.keys").is_none(), "{failure}");
    // Another provider has no limit but those of its keys; then there is the plan's.
    for number in 0..15 {
        a.reserve(request(tenants[0], "other", &format!("key-{number}"))).await.unwrap();
    }
    let failure = open(b.reserve(request(tenants[1], "other", "z")).await).unwrap_err();
    assert!(failure.metadata("limit.plan").is_some(), "{failure}");
}

#[tokio::test]
async fn a_refusal_names_every_limit_with_its_figures_and_writes_nothing() {
    let house = House::new().await;
    let text = one("everybody", "product", "request", "2", "rolling = '60s'");
    let engines = engines(&house, 2, &text).await;
    let tenant = house.tenant(vec![limit("own", "organization", "request", 2, lifetime())]);
    let other = house.tenant(vec![limit("own", "organization", "request", 2, lifetime())]);
    let mut client = engines[0].client();
    for _ in 0..2 {
        let answer = client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap().into_inner();
        let names: Vec<&str> = answer.limits.iter().map(|limit| limit.limit.as_str()).collect();
        assert_eq!(names, ["own", "everybody"]);
    }
    let failure = open(engines[1].client().reserve(reserve(tenant, &[("request", 1)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    let figures = failure.metadata("limit.everybody").unwrap();
    assert!(figures.starts_with("scope=product;unit=request;cap=2;used=2;held=2;requested=1;reset_ms="), "{figures}");
    let retry = figures.rsplit_once("retry_ms=").unwrap().1;
    let retry: u64 = retry.parse().unwrap();
    assert!((40_000..=60_000).contains(&retry), "when the first has left the window: {retry}");
    assert!(failure.metadata("limit.own").is_some(), "a refusal names them all: {failure}");
    let failure = open(engines[1].client().reserve(reserve(other, &[("request", 1)])).await).unwrap_err();
    assert!(failure.metadata("limit.own").is_none());
    let state = balance(&mut client, other, "everybody").await;
    assert_eq!((state.used, state.held, state.cap, state.scope.as_str()), (2, 2, 2, "product"));
    let check =
        CheckRequest { subject: reserve(other, &[]).subject, amounts: crate::house::amounts(&[("request", 1)]) };
    let check = client.check(check).await.unwrap().into_inner();
    assert_eq!((check.allowed, check.refused_by), (false, vec!["everybody".to_owned()]));
}

/// Admissions within `window` that were certainly inside one span of it.
fn assert_never_above(admitted: &[(Instant, Instant)], window: Duration, cap: usize) {
    for (place, (_, answered)) in admitted.iter().enumerate() {
        let inside = admitted[..=place].iter().filter(|(asked, _)| answered.duration_since(*asked) < window).count();
        assert!(inside <= cap, "{inside} within {window:?}");
    }
}

#[tokio::test]
async fn fifteen_in_a_window_are_never_sixteen_over_four_processes() {
    const WINDOW: Duration = Duration::from_millis(1_000);
    let house = House::new().await;
    let engines = engines(&house, 4, &one("fal", "product", "request", "15", "rolling = '1s'")).await;
    let tenants: Vec<_> = (0..4).map(|_| house.tenant(Vec::new())).collect();
    let admitted: Mutex<Vec<(Instant, Instant)>> = Mutex::default();
    let until = Instant::now() + 6 * WINDOW;
    storm(&all(&engines), 24, async |mut client: Client, number| {
        let mut round = 0;
        while Instant::now() < until {
            let request = reserve(tenants[number % 4], &[("request", 1)]);
            let asked = Instant::now();
            if let Ok(handle) = client.reserve(request.clone()).await {
                admitted.lock().unwrap().push((asked, Instant::now()));
                round += 1;
                // Ended ones count on, released ones do not.
                if round % 2 == 0 {
                    client.commit(commit(&request, &handle.into_inner(), &[("request", 1)])).await.unwrap();
                }
            }
            sleep(Duration::from_millis(7)).await;
        }
    })
    .await;
    let mut admitted = admitted.into_inner().unwrap();
    admitted.sort_by_key(|(_, answered)| *answered);
    assert_never_above(&admitted, WINDOW, 15);
    // Some are late in being said, none is lost: not much less than 15 for each window.
    assert!(admitted.len() >= 15 * 5, "{}", admitted.len());
}

#[tokio::test]
async fn what_is_not_used_comes_back_once() {
    let house = House::new().await;
    for (name, unit, amount, window) in [
        ("money", "nano_usd", "'0.000001'", "calendar = 'month'"),
        ("sum", "token", "1000", "calendar = 'hour'"),
        ("rate", "image", "1000", "rolling = '60s'"),
    ] {
        let engines = engines(&house, 2, &one(name, "product", unit, amount, window)).await;
        let tenant = house.tenant(Vec::new());
        let (mut a, mut b) = (engines[0].client(), engines[1].client());
        let used = async |client: &mut Client| {
            let state = balance(client, tenant, name).await;
            (state.used, state.held)
        };
        let request = reserve(tenant, &[(unit, 600)]);
        let handle = a.reserve(request.clone()).await.unwrap().into_inner();
        assert_eq!(used(&mut a).await, (600, 600), "{name}");
        assert!(b.reserve(reserve(tenant, &[(unit, 401)])).await.is_err(), "{name}");
        // By the other process, perhaps before the first has said that it gave it out; and again.
        for _ in 0..3 {
            b.commit(commit(&request, &handle, &[(unit, 100)])).await.unwrap();
        }
        a.commit(commit(&request, &handle, &[(unit, 100)])).await.unwrap();
        assert_eq!((used(&mut a).await, used(&mut b).await), ((100, 0), (100, 0)), "{name}");
        let second = reserve(tenant, &[(unit, 900)]);
        let given = b.reserve(second.clone()).await.unwrap().into_inner();
        assert!(a.reserve(reserve(tenant, &[(unit, 1)])).await.is_err(), "{name}");
        for _ in 0..2 {
            a.release(release(&second, &given)).await.unwrap();
        }
        assert_eq!((used(&mut a).await, used(&mut b).await), ((100, 0), (100, 0)), "{name}");
        // An estimate, then what it really was; more than was reserved is charged.
        let third = reserve(tenant, &[(unit, 50)]);
        let given = a.reserve(third.clone()).await.unwrap().into_inner();
        let mut estimate = commit(&third, &given, &[(unit, 50)]);
        estimate.estimated = true;
        b.commit(estimate).await.unwrap();
        assert_eq!(used(&mut b).await, (150, 0), "{name}");
        for _ in 0..2 {
            a.commit(commit(&third, &given, &[(unit, 70)])).await.unwrap();
        }
        assert_eq!((used(&mut a).await, used(&mut b).await), ((170, 0), (170, 0)), "{name}");
        let status = engines[0].assert_balanced().await;
        assert!(status.counters > 0);
    }
}

#[tokio::test]
async fn seats_are_kept_by_extending_and_freed_by_ending_or_expiring() {
    let house = House::new().await;
    let engines = engines(&house, 2, &one("at-once", "product", "concurrent", "2", "concurrent = true")).await;
    let tenant = house.tenant(Vec::new());
    let (mut a, mut b) = (engines[0].client(), engines[1].client());
    let mut first = reserve(tenant, &[("concurrent", 1)]);
    first.lease = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let mut second = first.clone();
    second.reservation_id = crate::house::id();
    let kept = a.reserve(first.clone()).await.unwrap().into_inner();
    b.reserve(second.clone()).await.unwrap();
    // The same again takes no other seat.
    b.reserve(first.clone()).await.unwrap();
    let failure = open(b.reserve(reserve(tenant, &[("concurrent", 1)])).await).unwrap_err();
    assert!(failure.metadata("limit.at-once").unwrap().contains("cap=2;used=2"), "{failure}");
    b.extend(ExtendRequest { leases: vec![extension(&first, &kept, 30)] }).await.unwrap();
    sleep(Duration::from_millis(1_100)).await;
    // The second has expired, the first has not.
    let third = reserve(tenant, &[("concurrent", 1)]);
    let given = a.reserve(third.clone()).await.unwrap().into_inner();
    assert!(b.reserve(reserve(tenant, &[("concurrent", 1)])).await.is_err());
    b.commit(commit(&third, &given, &[])).await.unwrap();
    a.reserve(reserve(tenant, &[("concurrent", 1)])).await.unwrap();
    assert!(b.reserve(reserve(tenant, &[("concurrent", 1)])).await.is_err());
}

#[tokio::test]
async fn a_lower_cap_takes_effect_with_the_first_process_that_knows_it() {
    let house = House::new().await;
    let old = engines(&house, 2, &one("all", "product", "request", "100", "calendar = 'day'")).await;
    let tenant = house.tenant(Vec::new());
    assert_eq!(rush(&old, &[tenant], 40, &[("request", 1)]).await.len(), 40);
    old[0].stop().await;
    let new = engines(&house, 1, &one("all", "product", "request", "50", "calendar = 'day'")).await;
    assert_eq!(rush(&new, &[tenant], 30, &[("request", 1)]).await.len(), 10, "40 are used of 50");
    old[1].stop().await;
    let raised = engines(&house, 2, &one("all", "product", "request", "60", "calendar = 'day'")).await;
    assert_eq!(rush(&raised, &[tenant], 30, &[("request", 1)]).await.len(), 10);
}

#[tokio::test]
async fn a_process_that_stops_returns_its_slices_at_once() {
    let house = House::new().await;
    let text = one("all", "product", "token", "100000", "calendar = 'day'");
    let engines = engines(&house, 2, &text).await;
    let tenant = house.tenant(Vec::new());
    let mut client = engines[0].client();
    for _ in 0..200 {
        client.reserve(reserve(tenant, &[("token", 100)])).await.unwrap();
    }
    engines[0].stop().await;
    engines[1].client().reserve(reserve(tenant, &[("token", 80_000)])).await.unwrap();
    let failure = open(engines[1].client().reserve(reserve(tenant, &[("token", 1)])).await).unwrap_err();
    assert!(failure.metadata("limit.all").unwrap().contains("used=100000"), "{failure}");
}
