//! Siblings that go away, brokers that die, stores that forget.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use prost::Message as _;
use weir_proto::quota::v1::ExpiredReservation;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_types::{ReservationId, names};

use crate::scene::{Scene, chat, streamed};

const QUICK: &str = "lease = \"1s\"\nlease_check = \"50ms\"\ntake_over_check = \"50ms\"";

#[tokio::test]
async fn a_call_is_settled_when_usage_is_back_and_its_lease_is_kept_until_then() {
    let scene = Scene::with(&["k"], QUICK).await;
    scene.siblings.usage_is_down.store(true, Ordering::Relaxed);
    scene.invoke(&chat(2, "")).await.unwrap();
    scene.eventually("the lease is extended", async |scene| !scene.siblings.extended.lock().is_empty()).await;
    assert!(scene.siblings.committed.lock().is_empty());
    scene.siblings.usage_is_down.store(false, Ordering::Relaxed);
    assert_eq!(scene.settled().await.output_tokens, 2);
}

#[tokio::test]
async fn what_quota_could_not_settle_yet_is_told_to_it_again() {
    let scene = Scene::with(&["k"], QUICK).await;
    scene.siblings.half_settled.store(2, Ordering::Relaxed);
    scene.invoke(&chat(2, "")).await.unwrap();
    assert_eq!(scene.settled().await.output_tokens, 2);
    scene.siblings.half_settled.store(2, Ordering::Relaxed);
    scene.invoke(&chat(2, "status=400")).await.unwrap_err();
    scene.eventually("it is released", async |scene| !scene.siblings.released.lock().is_empty()).await;
    assert_eq!(scene.siblings.half_settled.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn of_calls_that_are_settled_together_each_is_told_until_it_is() {
    let scene = Scene::with(&["k"], "settle_linger = \"500ms\"").await;
    // The first of them, whichever that is.
    scene.siblings.half_settled.store(1, Ordering::Relaxed);
    let body = chat(2, "");
    let calls = join_all((0..4).map(|_| scene.invoke(&body))).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(scene.ends().await, (4, 4, 0));
}

#[tokio::test]
async fn a_dead_brokers_reservation_is_settled_from_its_draft() {
    let scene = Scene::with(&["k"], QUICK).await;
    let id = ReservationId::new_v7();
    let draft = UsageEvent {
        event_id: id.to_string(),
        organization: names::organization(&scene.organization),
        input_tokens: 100,
        output_tokens: 50,
        cost_nano_usd: 100 * 150 + 50 * 600,
        estimated: true,
        outcome: Outcome::Unknown.into(),
        ..UsageEvent::default()
    };
    scene.siblings.expired.lock().push(ExpiredReservation {
        reservation_id: id.to_string(),
        organization: draft.organization.clone(),
        context: draft.encode_to_vec().into(),
        ..ExpiredReservation::default()
    });
    assert_eq!(scene.settled().await, draft);
}

#[tokio::test]
async fn what_usage_knows_of_a_dead_brokers_call_counts_and_not_the_draft() {
    let scene = Scene::with(&["k"], QUICK).await;
    scene.invoke(&chat(2, "")).await.unwrap();
    let event = scene.settled().await;
    scene.siblings.committed.lock().clear();
    let draft = UsageEvent { output_tokens: 999, estimated: true, ..event.clone() };
    scene.siblings.expired.lock().push(ExpiredReservation {
        reservation_id: event.event_id.clone(),
        organization: event.organization.clone(),
        context: draft.encode_to_vec().into(),
        ..ExpiredReservation::default()
    });
    assert_eq!(scene.settled().await, event);
}

#[tokio::test]
async fn live_reservations_are_announced_again_when_the_store_has_lost_them() {
    let scene = Scene::with(&["k"], "lease = \"1h\"\nlease_check = \"50ms\"").await;
    let mut parts = scene.stream(&streamed(100, "chunk_ms=20")).await.unwrap();
    parts.message().await.unwrap();
    assert!(scene.siblings.extended.lock().is_empty());
    scene.siblings.epoch.store(2, Ordering::Relaxed);
    scene.eventually("the reservation is announced", async |scene| !scene.siblings.extended.lock().is_empty()).await;
    let announced = scene.siblings.extended.lock()[0].clone();
    let draft = UsageEvent::decode(announced.context).unwrap();
    assert_eq!(draft.event_id, announced.reservation_id);
    assert_eq!(announced.handle, format!("handle of {}", announced.reservation_id).as_bytes());
}

#[tokio::test]
async fn a_shutdown_settles_what_is_under_way() {
    let scene = Scene::with(&["k"], "settle_linger = \"5s\"").await;
    let parts = scene.stream(&streamed(10, "chunk_ms=5")).await.unwrap();
    drop(parts);
    tokio::time::timeout(Duration::from_secs(8), scene.shut_down()).await.unwrap();
    assert_eq!(scene.siblings.committed.lock().len(), 1);
}
