use std::time::Duration;

use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::names;

use crate::billing::{calendar, concurrent, lifetime, limit, rolling};
use crate::house::{Engine, House, amounts, balance, commit, id, open, release, reserve, storm};
use weir_types::OrganizationId;

async fn settled() -> (House, Engine, OrganizationId) {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Month)),
        limit("tokens", "organization", "token", 1_000, rolling(60_000)),
        limit("minute", "organization", "token", 10_000, calendar(CalendarUnit::Hour)),
        limit("at-once", "organization", "concurrent", 3, concurrent()),
    ]);
    (house, engine, tenant)
}

const ASKED: &[(&str, i64)] = &[("nano_usd", 500), ("token", 400), ("concurrent", 1)];

async fn used(engine: &Engine, tenant: OrganizationId) -> [(i64, i64); 4] {
    let mut client = engine.client();
    let mut states = [(0, 0); 4];
    for (state, name) in states.iter_mut().zip(["budget", "tokens", "minute", "at-once"]) {
        let limit = balance(&mut client, tenant, name).await;
        *state = (limit.used, limit.held);
    }
    states
}

#[tokio::test]
async fn a_commit_charges_what_was_used_and_returns_the_rest() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    assert!(handle.handle.len() < 200);
    let states: Vec<(&str, i64, i64)> = handle.limits.iter().map(|l| (l.limit.as_str(), l.used, l.held)).collect();
    assert_eq!(states, [("budget", 500, 500), ("tokens", 400, 400), ("minute", 400, 400), ("at-once", 1, 1)]);
    let answer =
        client.commit(commit(&request, &handle, &[("nano_usd", 123), ("token", 77)])).await.unwrap().into_inner();
    assert_eq!((answer.duplicate, answer.late), (false, false));
    assert_eq!(answer.amounts, amounts(&[("nano_usd", 123), ("token", 77)]));
    assert_eq!(used(&engine, tenant).await, [(123, 0), (77, 0), (77, 0), (0, 0)]);
    // Again, and with other amounts: the first one stands.
    let again = client.commit(commit(&request, &handle, &[("nano_usd", 999)])).await.unwrap().into_inner();
    assert!(again.duplicate);
    assert_eq!(again.amounts, answer.amounts);
    assert_eq!(used(&engine, tenant).await, [(123, 0), (77, 0), (77, 0), (0, 0)]);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn more_than_was_reserved_is_charged() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(&request, &handle, &[("nano_usd", 1_700), ("token", 1_200)])).await.unwrap();
    assert_eq!(used(&engine, tenant).await, [(1_700, 0), (1_200, 0), (1_200, 0), (0, 0)]);
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
    // Nothing asked for is nothing refused.
    client.reserve(reserve(tenant, &[("nano_usd", 0)])).await.unwrap();
}

#[tokio::test]
async fn a_release_gives_everything_back_and_is_final() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    assert!(!client.release(release(&request, &handle)).await.unwrap().into_inner().duplicate);
    assert!(client.release(release(&request, &handle)).await.unwrap().into_inner().duplicate);
    assert_eq!(used(&engine, tenant).await, [(0, 0); 4]);
    let failure = open(client.commit(commit(&request, &handle, ASKED)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ReservationReleased);

    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(&request, &handle, &[("nano_usd", 5)])).await.unwrap();
    let failure = open(client.release(release(&request, &handle)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::AlreadyExists, "{failure}");
    assert_eq!(used(&engine, tenant).await[0], (5, 0));
    engine.assert_balanced().await;
}

#[tokio::test]
async fn an_actual_replaces_an_estimate_once() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let mut estimate = commit(&request, &handle, &[("nano_usd", 500), ("token", 400)]);
    estimate.estimated = true;
    client.commit(estimate.clone()).await.unwrap();
    assert_eq!(used(&engine, tenant).await[..3], [(500, 0), (400, 0), (400, 0)]);
    assert!(client.commit(estimate.clone()).await.unwrap().into_inner().duplicate);
    let actual = commit(&request, &handle, &[("nano_usd", 90), ("token", 50)]);
    let answer = client.commit(actual.clone()).await.unwrap().into_inner();
    assert!(!answer.duplicate);
    assert_eq!(used(&engine, tenant).await[..3], [(90, 0), (50, 0), (50, 0)]);
    for late in [actual, estimate, commit(&request, &handle, &[("nano_usd", 7)])] {
        let answer = client.commit(late).await.unwrap().into_inner();
        assert!(answer.duplicate);
        assert_eq!(answer.amounts, amounts(&[("nano_usd", 90), ("token", 50)]));
    }
    assert_eq!(used(&engine, tenant).await[..3], [(90, 0), (50, 0), (50, 0)]);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn one_reservation_that_everybody_settles_at_once_is_charged_once() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000_000, lifetime())]);
    for _ in 0..5 {
        let request = reserve(tenant, &[("nano_usd", 1_000)]);
        let handle = one.client().reserve(request.clone()).await.unwrap().into_inner();
        let before = balance(&mut one.client(), tenant, "budget").await.used - 1_000;
        let answers = storm(&[&one, &two], 60, async |mut client, number| {
            if number % 3 == 0 {
                open(client.release(release(&request, &handle)).await).map(|answer| (answer.duplicate, Vec::new()))
            } else {
                let actual = i64::try_from(number).unwrap();
                let mut settle = commit(&request, &handle, &[("nano_usd", actual)]);
                settle.estimated = number % 3 == 1;
                open(client.commit(settle).await).map(|answer| (answer.duplicate, answer.amounts))
            }
        })
        .await;
        let first: Vec<_> = answers.iter().flatten().filter(|(duplicate, _)| !duplicate).collect();
        assert!((1..=2).contains(&first.len()), "one ends it; an actual may replace an estimate: {first:?}");
        let after = balance(&mut one.client(), tenant, "budget").await;
        assert_eq!(after.held, 0);
        let last = one.client().commit(commit(&request, &handle, &[])).await;
        let charged = last.map_or(0, |answer| answer.into_inner().amounts.first().map_or(0, |amount| amount.value));
        assert_eq!(after.used - before, charged);
    }
    one.assert_balanced().await;
}

#[tokio::test]
async fn a_commit_after_the_lease_is_charged_once_and_called_late() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let mut request = reserve(tenant, ASKED);
    request.lease = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    // It still counts, but not as under way.
    assert_eq!(used(&engine, tenant).await, [(500, 500), (400, 400), (400, 400), (0, 0)]);
    assert_eq!(engine.status().await.expired, 1);
    let answer = client.commit(commit(&request, &handle, &[("nano_usd", 10)])).await.unwrap().into_inner();
    assert!(answer.late && !answer.duplicate);
    let again = client.commit(commit(&request, &handle, &[("nano_usd", 10)])).await.unwrap().into_inner();
    assert!(again.late && again.duplicate);
    assert_eq!(used(&engine, tenant).await[0], (10, 0));
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_batch_settles_each_on_its_own_in_order() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let mut held = Vec::new();
    for _ in 0..3 {
        let request = reserve(tenant, &[("nano_usd", 100)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        held.push((request, handle));
    }
    let settle = |action| Settle { action: Some(action) };
    let foreign = CommitRequest {
        organization: names::organization(&OrganizationId::new_v7()),
        ..commit(&held[2].0, &held[2].1, &[])
    };
    let settles = vec![
        settle(settle::Action::Commit(commit(&held[0].0, &held[0].1, &[("nano_usd", 40)]))),
        settle(settle::Action::Release(release(&held[1].0, &held[1].1))),
        settle(settle::Action::Commit(foreign)),
        Settle { action: None },
        settle(settle::Action::Commit(commit(&held[0].0, &held[0].1, &[("nano_usd", 40)]))),
        settle(settle::Action::Commit(commit(&held[1].0, &held[1].1, &[("nano_usd", 1)]))),
    ];
    let answer = client.batch_settle(BatchSettleRequest { settles }).await.unwrap().into_inner();
    let kinds: Vec<String> = answer
        .outcomes
        .into_iter()
        .map(|outcome| match outcome.outcome.unwrap() {
            settle_outcome::Outcome::Commit(commit) => format!("commit {}", commit.duplicate),
            settle_outcome::Outcome::Release(release) => format!("release {}", release.duplicate),
            settle_outcome::Outcome::Error(error) => error.reason().as_str_name().to_owned(),
        })
        .collect();
    let (invalid, released) = ("ERROR_REASON_INVALID_ARGUMENT", "ERROR_REASON_RESERVATION_RELEASED");
    assert_eq!(kinds, ["commit false", "release false", invalid, invalid, "commit true", released]);
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 140);
}

#[tokio::test]
async fn a_handle_is_not_needed_as_long_as_the_store_has_it() {
    let (_house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let none = ReserveResponse::default();
    let request = reserve(tenant, ASKED);
    client.reserve(request.clone()).await.unwrap();
    client.commit(commit(&request, &none, &[("nano_usd", 9)])).await.unwrap();
    assert!(client.commit(commit(&request, &none, &[("nano_usd", 9)])).await.unwrap().into_inner().duplicate);
    assert_eq!(used(&engine, tenant).await[0], (9, 0));

    let unknown = reserve(tenant, ASKED);
    let failure = open(client.commit(commit(&unknown, &none, &[])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ReservationNotFound);
    // A release of what never arrived keeps it from being admitted when it does.
    client.release(release(&unknown, &none)).await.unwrap();
    assert_eq!(open(client.reserve(unknown).await).unwrap_err().reason(), ErrorReason::IdReused);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_handle_of_another_reservation_or_organization_is_refused() {
    let (house, engine, tenant) = settled().await;
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let mut other = commit(&request, &handle, &[]);
    other.reservation_id = id();
    assert_eq!(open(client.commit(other).await).unwrap_err().reason(), ErrorReason::InvalidArgument);
    let stranger = house.tenant(Vec::new());
    let mut other = commit(&request, &handle, &[]);
    other.organization = names::organization(&stranger);
    assert_eq!(open(client.commit(other).await).unwrap_err().reason(), ErrorReason::InvalidArgument);
    let mut other = commit(&request, &handle, &[]);
    other.handle = vec![1, 2, 3].into();
    assert_eq!(open(client.commit(other).await).unwrap_err().reason(), ErrorReason::InvalidArgument);
    assert_eq!(engine.status().await.held, 1);
}

#[tokio::test]
async fn what_waits_when_the_service_stops_is_written() {
    let (_house, engine, tenant) = settled().await;
    let request = reserve(tenant, &[("nano_usd", 1)]);
    let handle = engine.client().reserve(request.clone()).await.unwrap().into_inner();
    let mut client = engine.client();
    let settling = tokio::spawn(async move { client.commit(commit(&request, &handle, &[("nano_usd", 1)])).await });
    tokio::task::yield_now().await;
    engine.stop().await;
    match open(settling.await.unwrap()) {
        Ok(answer) => assert!(!answer.duplicate),
        Err(failure) => assert_eq!(failure.reason(), ErrorReason::Unavailable, "it may have come too late"),
    }
}
