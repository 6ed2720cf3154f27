//! Several keys: spread over, rested, replaced.

use weir_proto::common::v1::ErrorReason;
use weir_simulator::Fault;

use crate::scene::{Scene, chat};

fn fault(key: &str, directive: &str) -> Fault {
    Fault { api_key: Some(key.into()), simulate: directive.parse().unwrap(), ..Fault::default() }
}

fn calls_of(scene: &Scene, ending: &str) -> usize {
    scene.provider.served().iter().filter(|served| served.api_key.ends_with(ending)).count()
}

#[tokio::test]
async fn calls_are_spread_over_the_keys() {
    let scene = Scene::with(&["sk-aaaa", "sk-bbbb"], "").await;
    for _ in 0..10 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!((calls_of(&scene, "aaaa"), calls_of(&scene, "bbbb")), (5, 5));
}

#[tokio::test]
async fn a_rate_limited_key_costs_one_call_and_the_others_serve() {
    let scene = Scene::with(&["sk-aaaa", "sk-bbbb"], "").await;
    scene.provider.add_fault(fault("sk-aaaa", "status=429,retry_after=30"));
    for _ in 0..20 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!(calls_of(&scene, "aaaa"), 1);
    assert_eq!(scene.ends().await, (21, 20, 1), "the attempt with the limited key is released");
}

#[tokio::test]
async fn a_dead_key_is_not_noticed_by_callers() {
    let scene = Scene::with(&["sk-aaaa", "sk-bbbb", "sk-cccc"], "").await;
    scene.provider.add_fault(fault("sk-aaaa", "status=401"));
    scene.provider.add_fault(fault("sk-bbbb", "status=500"));
    for _ in 0..12 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!(calls_of(&scene, "aaaa"), 1);
}

#[tokio::test]
async fn when_all_keys_are_limited_the_caller_hears_when_to_come_back() {
    let scene = Scene::with(&["sk-aaaa"], "").await;
    scene.provider.add_fault(fault("sk-aaaa", "status=429,retry_after=7"));
    for _ in 0..3 {
        let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::ProviderExhausted);
        assert!((6..=7).contains(&failure.retry_after().unwrap().as_secs()));
    }
    assert_eq!(calls_of(&scene, "aaaa"), 1, "one call per rest, not one per request");
}

#[tokio::test]
async fn the_providers_word_about_our_key_never_reaches_a_caller() {
    let scene = Scene::with(&["sk-secret-key"], "").await;
    scene.provider.add_fault(fault("sk-secret-key", "status=401"));
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderFailed);
    assert!(failure.provider_error().is_none() && !failure.message().contains("secret"));
}

#[tokio::test]
async fn quota_is_told_the_provider_and_the_keys_name() {
    let scene = Scene::with(&["sk-aaaa", "sk-bbbb"], "").await;
    for _ in 0..2 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    let reserved = scene.siblings.reserved.lock();
    let label = |name: &str| {
        let mut values: Vec<String> =
            reserved.values().map(|request| request.subject.as_ref().unwrap().labels[name].clone()).collect();
        values.sort();
        values
    };
    assert_eq!(label("provider"), ["sim", "sim"]);
    assert_eq!(label("provider_key"), ["sim/sk-aaaa", "sim/sk-bbbb"]);
}

#[tokio::test]
async fn a_key_that_quota_has_no_room_for_is_passed_over() {
    let scene = Scene::with(&["sk-aaaa", "sk-bbbb"], "").await;
    "sim/sk-aaaa".clone_into(&mut scene.siblings.full_key.lock());
    for _ in 0..4 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!((calls_of(&scene, "aaaa"), calls_of(&scene, "bbbb")), (0, 4));
    let alone = Scene::with(&["sk-aaaa"], "").await;
    "sim/sk-aaaa".clone_into(&mut alone.siblings.full_key.lock());
    let failure = alone.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    assert_eq!(calls_of(&alone, "aaaa"), 0);
}
