//! Calls that wait for a provider that has no room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::common::v1::ErrorReason;
use weir_simulator::{ApiKey, Fault, Options, Simulator};

use crate::scene::{Scene, chat, streamed};

#[tokio::test]
async fn fifty_at_once_on_a_provider_of_fifteen_a_window_are_all_served() {
    let scene = Scene::narrow(15, "30s", "").await;
    let calls = join_all((0..50).map(|_| async { scene.invoke(&chat(1, "")).await })).await;
    let positions: Vec<i32> = calls.into_iter().map(|call| call.unwrap().accounting.unwrap().queue_position).collect();
    let waited = positions.iter().filter(|position| **position > 0).count();
    assert!((20..=40).contains(&waited), "{positions:?}");
    let (reserved, committed, released) = scene.ends().await;
    assert_eq!((committed, reserved), (50, 50 + released), "what the provider refused was released");
}

#[tokio::test]
async fn a_waiting_stream_says_where_it_stands_and_positions_only_fall() {
    let scene = Scene::narrow(2, "30s", "queue.beat = \"10ms\"").await;
    let calls = join_all((0..10).map(|_| async {
        let mut parts = scene.stream(&streamed(3, "")).await.unwrap();
        let mut positions = Vec::new();
        let mut chunks = 0;
        while let Some(part) = parts.message().await.unwrap() {
            match part.part.unwrap() {
                Part::Queued(standing) => {
                    assert_eq!(chunks, 0);
                    positions.push(standing.position);
                }
                Part::Chunk(_) => chunks += 1,
                Part::Start(_) | Part::Accounting(_) => {}
            }
        }
        assert!(chunks > 0);
        positions
    }));
    let calls = calls.await;
    assert!(calls.iter().all(|positions| positions.is_sorted_by(|a, b| a >= b)), "{calls:?}");
    assert!(calls.iter().any(|positions| positions.len() > 1), "{calls:?}");
    assert!(calls.iter().flatten().all(|position| (1..=10).contains(position)), "{calls:?}");
}

#[tokio::test]
async fn a_limit_of_the_provider_is_waited_for_and_one_of_the_caller_is_not() {
    let scene = Scene::narrow(100, "30s", "").await;
    scene.siblings.refuse.store(3, Ordering::Relaxed);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    *scene.siblings.refusing_scope.lock() = "provider".into();
    scene.siblings.refuse.store(4, Ordering::Relaxed);
    let accounting = scene.invoke(&chat(1, "")).await.unwrap().accounting.unwrap();
    assert_eq!(accounting.queue_position, 1);
    assert!(accounting.queue_time.is_some());
}

#[tokio::test]
async fn nobody_waits_for_what_comes_too_late() {
    let scene = Scene::narrow(1, "500ms", "").await;
    scene.invoke(&chat(1, "")).await.unwrap();
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderExhausted);
    assert!(failure.retry_after().is_some());
}

#[tokio::test]
async fn a_full_line_refuses_with_when_to_try_again() {
    let scene = Scene::narrow(1, "30s", "queue.capacity = 2").await;
    let calls = join_all((0..6).map(|_| async { scene.invoke(&chat(1, "")).await })).await;
    let (served, refused): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert!(served.len() >= 3, "one at once and two that waited");
    for failure in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(failure.reason(), ErrorReason::Overloaded);
        assert!(failure.retry_after().is_some());
    }
}

#[tokio::test]
async fn a_caller_who_leaves_loses_his_place() {
    let scene = Arc::new(Scene::narrow(1, "30s", "drain = \"1s\"").await);
    scene.invoke(&chat(1, "")).await.unwrap();
    let first = tokio::time::timeout(Duration::from_millis(200), scene.invoke(&chat(1, ""))).await;
    assert!(first.is_err(), "it waits");
    let second = scene.invoke(&chat(1, "")).await.unwrap();
    assert!(second.accounting.unwrap().queue_position > 0);
    scene.ends().await;
    let answered = scene.provider.served().iter().filter(|served| served.status == 200).count();
    assert_eq!(answered, 2, "the one that left was never sent");
}

#[tokio::test]
async fn a_shutdown_turns_away_those_who_wait() {
    let scene = Scene::narrow(1, "30s", "").await;
    scene.invoke(&chat(1, "")).await.unwrap();
    let body = chat(1, "");
    let (waiting, ()) = tokio::join!(scene.invoke(&body), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        scene.shut_down().await;
    });
    assert_eq!(waiting.unwrap_err().reason(), ErrorReason::Unavailable);
}

/// Where a call would stand; 0 if it would not have to wait.
async fn place(scene: &Scene) -> i32 {
    let mut parts = scene.stream(&streamed(1, "")).await.unwrap();
    match parts.message().await.unwrap().unwrap().part.unwrap() {
        Part::Queued(standing) => standing.position,
        _ => 0,
    }
}

/// Two brokers, each in a runtime of its own, so that one can end without a word.
#[test]
fn when_a_broker_is_killed_halfway_the_calls_of_the_other_are_all_served() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let settings = "queue.beat = \"50ms\"";
    let (provider, redis) = here.block_on(async {
        let options = Options {
            api_keys: vec![ApiKey::limited("sk-one", 10)],
            rate_window: Duration::from_millis(500),
            ..Options::default()
        };
        (Arc::new(Simulator::start(options).await.unwrap()), weir_testing::redis().await.unwrap())
    });
    // No room until the victim's calls stand in line.
    let simulate = "status=429,retry_after=0.1".parse().unwrap();
    provider.add_fault(Fault { simulate, ..Fault::default() });
    let survivor = here.block_on(Scene::beside(&provider, &redis, settings));
    let victim = Arc::new(there.block_on(Scene::beside(&provider, &redis, settings)));
    for _ in 0..25 {
        let victim = Arc::clone(&victim);
        there.spawn(async move { victim.invoke(&chat(1, "")).await });
    }
    let positions = here.block_on(async {
        survivor.eventually("the other's calls stand in line", async |survivor| place(survivor).await > 10).await;
        provider.clear_faults();
        let calls = join_all((0..25).map(|_| async { survivor.invoke(&chat(1, "")).await }));
        let kill = async {
            let served = || provider.served().iter().filter(|served| served.status == 200).count();
            survivor.eventually("half are served", async |_| served() >= 20).await;
            there.shutdown_background();
        };
        let (calls, ()) = tokio::join!(calls, kill);
        calls.into_iter().map(|call| call.unwrap().accounting.unwrap().queue_position).collect::<Vec<_>>()
    });
    assert!(positions.iter().any(|position| *position > 25), "one line for both: {positions:?}");
}

/// Three calls that find no room for a moment, with one turn for all of them, at a provider that answers none within the hour: it has
/// all three of them all the same.
async fn the_turn_goes_on_although_nobody_is_answered(scope: &str, turn: &str) {
    let options = Options { latency: Duration::from_secs(3_600), ..Options::default() };
    let provider = Arc::new(Simulator::start(options).await.unwrap());
    let settings = format!("queue.turns = 1\nqueue.turn = \"{turn}\"");
    let scene = Scene::patient_for_answers(&provider, &settings).await;
    *scene.siblings.refusing_scope.lock() = scope.into();
    scene.siblings.refuse.store(3, Ordering::Relaxed);
    let body = chat(1, "");
    let calls = join_all((0..3).map(|_| scene.invoke(&body)));
    let all = scene.eventually("the provider has all of them", async |_| provider.stats().in_flight == 3);
    tokio::select! {
        answers = calls => panic!("{answers:?}"),
        () = all => {}
    }
}

#[tokio::test]
async fn who_has_found_room_by_the_providers_own_limits_lets_the_next_one_try() {
    the_turn_goes_on_although_nobody_is_answered("provider", "60s").await;
}

#[tokio::test]
async fn who_waits_for_the_answer_of_a_provider_without_known_limits_lets_the_next_one_try_when_his_turn_is_over() {
    the_turn_goes_on_although_nobody_is_answered("provider_key", "50ms").await;
}
