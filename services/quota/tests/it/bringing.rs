//! Limits that reservations bring with them, beside those of the tenant's plan.

use std::time::Duration;

use tokio::time::sleep;
use weir_proto::billing::v1::window::Kind;
use weir_proto::billing::v1::{CalendarUnit, CalendarWindow, Limit, OnFailure};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_rpc::Failure;
use weir_types::OrganizationId;

use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, House, amounts, commit, extension, open, release, reserve};

/// What the holder of a key set: requests in a minute, and money in a month.
fn brought(requests: i64, money: i64) -> Vec<Limit> {
    vec![
        limit("key-requests", "own_key", "request", requests, rolling(60_000)),
        limit("key-cost", "own_key", "own_nano_usd", money, month("")),
    ]
}

fn month(time_zone: &str) -> Kind {
    Kind::Calendar(CalendarWindow { unit: CalendarUnit::Month.into(), time_zone: time_zone.to_owned() })
}

fn with_key(tenant: OrganizationId, key: &str, cost: i64, limits: Vec<Limit>) -> ReserveRequest {
    let mut request = reserve(tenant, &[("request", 1), ("own_nano_usd", cost)]);
    request.subject.as_mut().unwrap().labels.insert("own_key".to_owned(), key.to_owned());
    ReserveRequest { limits, ..request }
}

async fn reserved(client: &mut Client, request: &ReserveRequest) -> Result<ReserveResponse, Failure> {
    open(client.reserve(request.clone()).await)
}

#[tokio::test]
async fn limits_that_are_brought_hold_for_their_label_alone_whatever_cap_they_come_with() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("all", "organization", "request", 5, lifetime())]);
    for _ in 0..2 {
        let request = with_key(tenant, "one", 10, brought(2, 1_000));
        let answer = reserved(&mut client, &request).await.unwrap();
        assert_eq!(answer.limits.len(), 3, "{:?}", answer.limits);
    }
    let failure = reserved(&mut client, &with_key(tenant, "one", 10, brought(2, 1_000))).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    assert_eq!(failure.figure("key-requests", "scope"), Some("own_key"));
    assert_eq!(failure.violations().len(), 1, "{failure}");
    // Another key has counters of its own, and a raised cap counts on.
    reserved(&mut client, &with_key(tenant, "two", 10, brought(1, 1_000))).await.unwrap();
    let raised = reserved(&mut client, &with_key(tenant, "one", 10, brought(3, 1_000))).await.unwrap();
    let used = raised.limits.iter().find(|limit| limit.limit == "key-requests").map(|limit| limit.used);
    assert_eq!(used, Some(3));
    // The plan's own still hold.
    reserved(&mut client, &with_key(tenant, "three", 10, brought(9, 1_000))).await.unwrap();
    let failure = reserved(&mut client, &with_key(tenant, "four", 10, brought(9, 1_000))).await.unwrap_err();
    assert_eq!(failure.violations()[0].subject, "all");
}

#[tokio::test]
async fn what_a_holder_may_spend_in_a_month_survives_a_loss_of_the_store() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let spent = with_key(tenant, "one", 60, brought(100, 100));
    let handle = reserved(&mut client, &spent).await.unwrap();
    client.commit(commit(&spent, &handle, &[("request", 1), ("own_nano_usd", 60)])).await.unwrap();
    let alive = with_key(tenant, "one", 30, brought(100, 100));
    let handle = reserved(&mut client, &alive).await.unwrap();

    house.lose().await;
    let leases = vec![extension(&alive, &handle, 30)];
    while open(client.extend(ExtendRequest { leases: leases.clone() }).await).is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    let refused = loop {
        match reserved(&mut client, &with_key(tenant, "one", 20, brought(100, 100))).await {
            Err(failure) if failure.is_transient() => sleep(Duration::from_millis(20)).await,
            answer => break answer.unwrap_err(),
        }
    };
    assert_eq!(refused.reason(), ErrorReason::BudgetExhausted);
    assert_eq!((refused.figure("key-cost", "used"), refused.figure("key-cost", "held")), (Some("90"), Some("30")));
    reserved(&mut client, &with_key(tenant, "one", 10, brought(100, 100))).await.unwrap();
    client.release(release(&alive, &handle)).await.unwrap();
    let state = reserved(&mut client, &with_key(tenant, "one", 30, brought(100, 100))).await.unwrap();
    assert!(state.limits.iter().any(|limit| (limit.used, limit.held) == (100, 40)), "{state:?}");
    assert_eq!(engine.status().await.drifts, []);
}

#[tokio::test]
async fn what_grows_stays_within_what_it_brought() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("all", "organization", "request", 100, lifetime())]);
    let request = with_key(tenant, "one", 40, brought(9, 100));
    let handle = reserved(&mut client, &request).await.unwrap();
    let grow = |whole: i64| {
        let whole = amounts(&[("own_nano_usd", whole)]);
        ExtendRequest { leases: vec![LeaseExtension { amounts: whole, ..extension(&request, &handle, 30) }] }
    };
    let failure = open(client.extend(grow(101)).await).unwrap_err();
    assert_eq!(failure.figure("key-cost", "cap"), Some("100"), "{failure}");
    open(client.extend(grow(90)).await).unwrap();
    let failure = reserved(&mut client, &with_key(tenant, "one", 20, brought(9, 100))).await.unwrap_err();
    assert_eq!(failure.figure("key-cost", "used"), Some("90"));
}

#[tokio::test]
async fn limits_that_could_not_be_told_from_the_plans_are_refused() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("feature", "feature", "request", 100, lifetime())]);
    let bad = |limit: Limit| {
        let mut request = with_key(tenant, "one", 1, vec![limit]);
        request.subject.as_mut().unwrap().labels.insert("feature".to_owned(), "interview".to_owned());
        request
    };
    for limit in [
        limit("a", "organization", "request", 1, rolling(60_000)),
        limit("a", "session", "request", 1, rolling(60_000)),
        limit("a", "feature", "request", 1, rolling(60_000)),
        limit("a", "own_key", "request", 1, lifetime()),
        limit("a", "own_key", "request", 1, month("Europe/Berlin")),
        limit("a", "own_key", "concurrent", 1, concurrent()),
        Limit {
            on_failure: OnFailure::Open.into(),
            amount: -1,
            ..limit("a", "own_key", "request", 1, rolling(60_000))
        },
    ] {
        let failure = reserved(&mut client, &bad(limit.clone())).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::InvalidArgument, "{limit:?}");
        assert_eq!(failure.fields()[0].subject, "limits", "{limit:?}");
    }
    let many = ReserveRequest { limits: vec![Limit::default(); 9], ..bad(Limit::default()) };
    assert_eq!(reserved(&mut client, &many).await.unwrap_err().reason(), ErrorReason::InvalidArgument);
}
