//! Requests that come while the same one is under way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use weir_proto::broker::v1::Operation;
use weir_proto::broker::v1::{Accounting, InvokeRequest, Job, JobState};
use weir_proto::common::v1::ErrorReason;

use crate::cache::{House, of};
use crate::jobs::invoke;
use crate::scene::Scene;

const TOGETHER: &str =
    "[broker.routes.together]\nprovider = \"sim\"\nmodel = \"sim-small\"\ncache = { coalesce = true }\n";

fn slow(text: &str, directive: &str) -> Value {
    let mut body = of("together", text);
    body["metadata"] = json!({"simulate": directive});
    body
}

async fn under_way(house: &House) {
    house.scene.eventually("it is under way", async |_| house.provider.stats().in_flight == 1).await;
}

#[tokio::test]
async fn many_who_ask_the_same_at_once_cost_one_call() {
    let house = House::with("", TOGETHER).await;
    for round in 1..=3 {
        let body = slow(&format!("question {round}"), "latency_ms=200");
        let answers = join_all((0..30).map(|_| house.scene.invoke(&body))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
        let said: Vec<_> = answers.iter().map(|answer| answer.accounting.as_ref().unwrap()).collect();
        let (free, paid): (Vec<&Accounting>, Vec<&Accounting>) =
            said.iter().copied().partition(|accounting| accounting.coalesced);
        assert_eq!((free.len(), paid.len(), house.calls()), (29, 1, round));
        assert!(free.iter().all(|accounting| accounting.cost_nano_usd == 0) && paid[0].cost_nano_usd > 0);
        let ids: std::collections::HashSet<_> = said.iter().map(|accounting| &accounting.reservation_id).collect();
        assert_eq!(ids.len(), 30);
    }
    assert_eq!(house.scene.ends().await, (3, 3, 0));
    house.scene.eventually("all are in the books", async |scene| scene.siblings.recorded.lock().len() == 90).await;
}

#[tokio::test]
async fn who_asks_later_or_something_else_or_elsewhere_has_a_call_of_his_own() {
    let house = House::with("", TOGETHER).await;
    let (one, other) = (slow("one", "latency_ms=200"), slow("other", "latency_ms=200"));
    let stranger = async {
        let body = one.to_string().into();
        let asked = InvokeRequest { operation: Operation::ChatCompletions.into(), body, ..InvokeRequest::default() };
        house.scene.broker.clone().invoke(house.scene.stranger.request(asked)).await.unwrap()
    };
    tokio::join!(
        async { house.scene.invoke(&one).await.unwrap() },
        async { house.scene.invoke(&other).await.unwrap() },
        stranger
    );
    assert_eq!(house.calls(), 3);
    assert!(!house.scene.invoke(&one).await.unwrap().accounting.unwrap().coalesced);
    assert_eq!(house.calls(), 4);
    let apart = of("fast", "one");
    join_all((0..3).map(|_| house.scene.invoke(&apart))).await;
    assert_eq!(house.calls(), 7, "a route that does not say so");
}

#[tokio::test]
async fn the_others_get_the_answer_if_who_began_it_leaves() {
    let house = House::with("drain = \"10ms\"", TOGETHER).await;
    let body = slow("one", "latency_ms=2000");
    let first = tokio::time::timeout(Duration::from_secs(1), house.scene.invoke(&body));
    let second = async {
        under_way(&house).await;
        house.scene.invoke(&body).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_err());
    assert!(second.unwrap().accounting.unwrap().coalesced);
    assert_eq!((house.calls(), house.scene.ends().await), (1, (1, 1, 0)));
}

#[tokio::test]
async fn if_all_leave_it_ends_as_any_call_that_was_left() {
    let house = House::with("drain = \"5s\"", TOGETHER).await;
    let body = slow("one", "latency_ms=300");
    let patience = Duration::from_millis(150);
    join_all((0..3).map(|_| tokio::time::timeout(patience, house.scene.invoke(&body)))).await;
    assert_eq!(house.scene.ends().await, (1, 1, 0));
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_refusal_of_who_began_it_is_not_that_of_the_others() {
    let house = House::with("", TOGETHER).await;
    house.scene.siblings.refuse.store(1, Ordering::Relaxed);
    let body = slow("one", "latency_ms=200");
    let answers = join_all((0..10).map(|_| house.scene.invoke(&body))).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len(), house.calls()), (9, 1, 1));
    assert_eq!(bad.into_iter().next().unwrap().unwrap_err().reason(), ErrorReason::QuotaExceeded);
    assert_eq!(house.scene.ends().await, (1, 1, 0));
}

#[tokio::test]
async fn if_every_one_is_refused_each_is_told_so_in_the_end() {
    let house = House::with("", TOGETHER).await;
    house.scene.siblings.refuse.store(u64::MAX, Ordering::Relaxed);
    let body = slow("one", "latency_ms=50");
    let answers = join_all((0..10).map(|_| house.scene.invoke(&body))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|why| why.reason() == ErrorReason::QuotaExceeded)));
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_everybodys() {
    let house = House::with("", TOGETHER).await;
    let body = slow("one", "latency_ms=200, status=400");
    let answers = join_all((0..10).map(|_| house.scene.invoke(&body))).await;
    assert!(
        answers.iter().all(|answer| answer.as_ref().is_err_and(|why| why.reason() == ErrorReason::ProviderRejected))
    );
    assert_eq!(house.calls(), 1);
}

/// A job's call has the job's patience, and its own try in the books.
#[tokio::test]
async fn a_jobs_call_is_nobody_elses() {
    let house = House::with("", TOGETHER).await;
    let body = slow("one", "latency_ms=2000");
    let job = async {
        under_way(&house).await;
        let job = house.scene.create(Job { steps: vec![invoke("one", &body)], ..Job::default() }).await;
        house.scene.reaches(&job.name, JobState::Complete).await
    };
    let (plain, _) = tokio::join!(async { house.scene.invoke(&body).await.unwrap() }, job);
    assert!(!plain.accounting.unwrap().coalesced);
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn a_stream_is_nobody_elses() {
    let house = House::with("", TOGETHER).await;
    let mut body = slow("one", "chunk_ms=10");
    body["stream"] = true.into();
    let play = async |scene: &Scene| scene.stream_whole(&body).await.0;
    let (one, other) = tokio::join!(play(&house.scene), play(&house.scene));
    assert!(one.contains("[DONE]") && other.contains("[DONE]"));
    assert_eq!(house.calls(), 2);
}
