//! Limits that change while they are in use.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::billing::v1::{CalendarUnit, Limit};
use weir_proto::common::v1::ErrorReason;
use weir_types::OrganizationId;

use crate::billing::{calendar, lifetime, limit, rolling};
use crate::house::{Engine, House, balance, commit, open, reserve, settings};

fn budget(amount: i64) -> Limit {
    limit("budget", "organization", "nano_usd", amount, lifetime())
}

/// Until every process hears of changes.
async fn followed(house: &House, engines: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while house.billing.watchers() < engines {
        assert!(Instant::now() < until, "nobody follows billing");
        sleep(Duration::from_millis(5)).await;
    }
}

/// How long it takes until a process refuses.
async fn refuses_after(engine: &Engine, tenant: OrganizationId, since: Instant) -> Duration {
    let mut client = engine.client();
    loop {
        match open(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await) {
            Err(failure) => {
                assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
                return since.elapsed();
            }
            Ok(_) => assert!(since.elapsed() < Duration::from_secs(60), "the lower limit never came"),
        }
        // A store in memory never makes this loop wait, and on one thread nothing else would run.
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_lower_limit_refuses_on_every_process_as_soon_as_it_is_pushed() {
    let house = House::new().await;
    let engines = [house.engine().await, house.engine().await, house.engine().await];
    followed(&house, engines.len()).await;
    let mut lags = Vec::new();
    for _ in 0..10 {
        let tenant = house.tenant(vec![budget(1_000_000)]);
        for engine in &engines {
            engine.client().reserve(reserve(tenant, &[("nano_usd", 100)])).await.unwrap();
        }
        house.billing.set(tenant, vec![budget(200)]);
        let pushed = Instant::now();
        let one_by_one = engines.iter().map(|engine| refuses_after(engine, tenant, pushed));
        lags.extend(futures::future::join_all(one_by_one).await);
        // From then on nobody admits, and what was counted is counted.
        for engine in &engines {
            assert!(engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
            let budget = balance(&mut engine.client(), tenant, "budget").await;
            assert_eq!(budget.cap, 200);
            assert!(budget.used >= 300, "{budget:?}");
        }
    }
    lags.sort_unstable();
    println!("from push to refusal: median {:?}, worst {:?}", lags[lags.len() / 2], lags[lags.len() - 1]);
}

#[tokio::test]
async fn a_push_that_was_missed_is_made_good_by_the_next_stream_and_by_time() {
    let house = House::new().await;
    let mut forgetful = settings();
    forgetful.quota.entitlements.refresh_every = Duration::from_secs(1);
    let (following, asking) = (house.engine().await, house.engine_with(forgetful).await);
    followed(&house, 2).await;
    let tenant = house.tenant(vec![budget(1_000_000)]);
    for engine in [&following, &asking] {
        engine.client().reserve(reserve(tenant, &[("nano_usd", 100)])).await.unwrap();
    }
    // The push of the first limits makes doubtful what was fetched before it came.
    sleep(Duration::from_millis(500)).await;
    following.client().reserve(reserve(tenant, &[("nano_usd", 100)])).await.unwrap();
    house.billing.set_silently(tenant, vec![budget(150)]);
    // One asks again when what it knows is old; the other does not know better until its stream begins anew.
    refuses_after(&asking, tenant, Instant::now()).await;
    following.client().reserve(reserve(tenant, &[("nano_usd", 100)])).await.unwrap();
    house.billing.cut();
    refuses_after(&following, tenant, Instant::now()).await;
    assert_eq!(balance(&mut following.client(), tenant, "budget").await.cap, 150);
}

#[tokio::test]
async fn another_plan_goes_on_counting_where_limits_are_the_same_and_begins_where_they_are_not() {
    let house = House::new().await;
    let engine = house.engine().await;
    followed(&house, 1).await;
    let mut client = engine.client();
    let month = || calendar(CalendarUnit::Month);
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, month()),
        limit("requests", "organization", "request", 10, rolling(600_000)),
        limit("tokens", "organization", "token", 1_000, calendar(CalendarUnit::Day)),
    ]);
    let request = reserve(tenant, &[("nano_usd", 400), ("request", 1), ("token", 300)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(&request, &handle, &[("nano_usd", 350), ("request", 1), ("token", 250)])).await.unwrap();
    let held = reserve(tenant, &[("nano_usd", 50), ("request", 1), ("token", 10)]);
    let held_handle = client.reserve(held.clone()).await.unwrap().into_inner();
    // In another order, with other amounts; one has another window, one is new, and the last one is of another scope.
    house.billing.set(
        tenant,
        vec![
            limit("requests", "organization", "request", 100, rolling(600_000)),
            limit("tokens", "organization", "token", 5_000, month()),
            limit("budget", "organization", "nano_usd", 20_000, month()),
            limit("inputs", "organization", "input_token", 7, month()),
        ],
    );
    let until = Instant::now() + Duration::from_secs(60);
    while balance(&mut client, tenant, "budget").await.cap != 20_000 {
        assert!(Instant::now() < until, "the plan never changed");
        sleep(Duration::from_millis(1)).await;
    }
    let state = async |client: &mut crate::house::Client, name| {
        let state = balance(client, tenant, name).await;
        (state.used, state.held)
    };
    assert_eq!(state(&mut client, "budget").await, (400, 50));
    assert_eq!(state(&mut client, "requests").await, (2, 1));
    assert_eq!(state(&mut client, "tokens").await, (0, 0), "a month is no day");
    client.commit(commit(&held, &held_handle, &[("nano_usd", 20), ("request", 1), ("token", 10)])).await.unwrap();
    assert_eq!(state(&mut client, "budget").await, (370, 0));
    assert_eq!(state(&mut client, "requests").await, (2, 0));
    assert_eq!(engine.status().await.drifts, []);
}
