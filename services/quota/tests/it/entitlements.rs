use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_types::OrganizationId;

use crate::billing::{calendar, lifetime, limit, rolling};
use crate::house::{House, balance, commit, open, reserve, storm};

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 5 s");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn limits_are_asked_for_once_however_many_want_them() {
    let house = House::new().await;
    let engine = house.engine().await;
    until(|| house.billing.watchers() == 1).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    // A change, and beginning to hear of changes, each make doubtful what was fetched before.
    sleep(Duration::from_millis(400)).await;
    let before = house.billing.asked.load(Ordering::SeqCst);
    storm(&[&engine], 100, async |mut client, _| client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap())
        .await;
    assert_eq!(house.billing.asked.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn a_restart_while_billing_is_down_serves_what_it_said_last() {
    let house = House::new().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let engine = house.engine().await;
    engine.client().reserve(reserve(tenant, &[("nano_usd", 60)])).await.unwrap();
    engine.stop().await;
    drop(engine);

    house.billing.down.store(true, Ordering::SeqCst);
    let engine = house.engine().await;
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 40)])).await.unwrap();
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
    // Who was never seen can't be judged.
    let stranger = house.tenant(Vec::new());
    let failure = open(client.reserve(reserve(stranger, &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("peer").is_some()), (ErrorReason::Unavailable, false));
    assert!(failure.retry_after().is_some());
    house.billing.down.store(false, Ordering::SeqCst);
    client.reserve(reserve(stranger, &[("nano_usd", 1)])).await.unwrap();

    let unknown = open(client.reserve(reserve(OrganizationId::new_v7(), &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!(unknown.reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn a_pushed_change_applies_to_the_next_request_and_loses_no_count() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    until(|| house.billing.watchers() == 2).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let request = reserve(tenant, &[("nano_usd", 300)]);
    let handle = one.client().reserve(request.clone()).await.unwrap().into_inner();
    one.client().commit(commit(&request, &handle, &[("nano_usd", 300)])).await.unwrap();
    let held = reserve(tenant, &[("nano_usd", 100)]);
    let held_handle = two.client().reserve(held.clone()).await.unwrap().into_inner();

    // Lower, and with another limit beside it.
    house.billing.set(
        tenant,
        vec![
            limit("requests", "organization", "request", 2, rolling(60_000)),
            limit("budget", "organization", "nano_usd", 350, lifetime()),
        ],
    );
    sleep(Duration::from_millis(400)).await;
    for engine in [&one, &two] {
        let failure = open(engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
        let budget = balance(&mut engine.client(), tenant, "budget").await;
        assert_eq!((budget.cap, budget.used, budget.held), (350, 400, 100));
    }
    // Without the limit nothing is counted by it; what is settled meanwhile is on the books when it comes back.
    house.billing.set(tenant, vec![limit("requests", "organization", "request", 2, rolling(60_000))]);
    sleep(Duration::from_millis(400)).await;
    one.client().reserve(reserve(tenant, &[("nano_usd", 9_999), ("request", 1)])).await.unwrap();
    two.client().commit(commit(&held, &held_handle, &[("nano_usd", 40)])).await.unwrap();
    house.billing.set(tenant, vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    sleep(Duration::from_millis(400)).await;
    let budget = balance(&mut one.client(), tenant, "budget").await;
    assert_eq!((budget.cap, budget.used, budget.held), (1_000, 340, 0));
    assert_eq!(one.status().await.drifts, []);
}

#[tokio::test]
async fn what_is_held_stays_held_through_a_change_of_plan() {
    let house = House::new().await;
    let engine = house.engine().await;
    until(|| house.billing.watchers() == 1).await;
    let month = || limit("budget", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Month));
    let tenant = house.tenant(vec![month()]);
    let mut client = engine.client();
    let request = reserve(tenant, &[("nano_usd", 700)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    // Away and back again while it is under way.
    house.billing.set(tenant, vec![limit("other", "organization", "nano_usd", 5_000, calendar(CalendarUnit::Day))]);
    sleep(Duration::from_millis(400)).await;
    client.reserve(reserve(tenant, &[("nano_usd", 50)])).await.unwrap();
    house.billing.set(tenant, vec![month()]);
    sleep(Duration::from_millis(400)).await;
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 301)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "700 of 1000 are held");
    client.commit(commit(&request, &handle, &[("nano_usd", 10)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 10);
    assert_eq!(engine.status().await.drifts, []);
}

#[tokio::test]
async fn a_limit_that_is_not_understood_refuses_rather_than_limits_nothing() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut broken = limit("budget", "organization", "nano_usd", 1_000, lifetime());
    broken.window = None;
    let tenant = house.tenant(vec![broken]);
    let failure = open(engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Internal);
}
