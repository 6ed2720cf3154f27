//! Keys that come, change and go while calls are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join3;
use weir_proto::broker::v1::ProviderKeyLimits;
use weir_types::UserId;

use super::{broker, first_master, secret, served, simulator};
use crate::database::{connect, database};
use crate::scene::{Scene, chat, streamed};

#[tokio::test]
async fn every_broker_goes_by_a_key_that_one_of_them_stored_rotated_or_forgot() {
    let (sim, admin) = (simulator().await, database().await);
    let mut one = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let mut other = broker(&sim, connect(&admin.url).await, &first_master()).await;
    other.adopt(&one);
    let user = UserId::new_v7();
    (one.bearer, other.bearer) = (one.member(user), other.member(user));
    let goes_by = async |scene: &Scene, ending: &str| {
        scene
            .eventually("the other broker goes by it", async |scene| {
                scene.invoke(&chat(1, "")).await.unwrap();
                served(&sim).last().is_some_and(|last| last == ending)
            })
            .await;
    };
    let key = one.store(&one.bearer, Some(user), &secret("aaaa"), ProviderKeyLimits::default()).await.unwrap();
    goes_by(&other, "aaaa").await;
    other.rotate(&other.bearer, &key.name, &secret("bbbb")).await.unwrap();
    goes_by(&one, "bbbb").await;
    // Where it was changed it is in force when that is answered.
    one.rotate(&one.bearer, &key.name, &secret("cccc")).await.unwrap();
    one.invoke(&chat(1, "")).await.unwrap();
    assert_eq!(served(&sim).last().unwrap(), "cccc");
    one.delete(&one.bearer, &key.name).await.unwrap();
    goes_by(&other, "0000").await;
    let late = broker(&sim, connect(&admin.url).await, &first_master()).await;
    assert_eq!(late.list(&late.bearer, 0).await.unwrap().provider_keys, []);
}

#[tokio::test]
async fn rotating_a_key_under_load_drops_no_call() {
    let (sim, admin) = (simulator().await, database().await);
    let mut one = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let mut other = broker(&sim, connect(&admin.url).await, &first_master()).await;
    other.adopt(&one);
    let user = UserId::new_v7();
    (one.bearer, other.bearer) = (one.member(user), other.member(user));
    let key = one.store(&one.bearer, Some(user), &secret("k000"), ProviderKeyLimits::default()).await.unwrap();
    other
        .eventually("both know it", async |scene| {
            scene.invoke(&chat(1, "")).await.unwrap();
            served(&sim).last().unwrap() == "k000"
        })
        .await;
    let before = served(&sim).len();
    let done = Arc::new(AtomicBool::new(false));
    let hammer = async |scene: &Scene| {
        let mut calls = 0;
        while !done.load(Ordering::Relaxed) {
            scene.invoke(&chat(1, "")).await.unwrap();
            calls += 1;
        }
        calls
    };
    let rotate = async {
        for turn in 1..=8 {
            let (scene, next) = (if turn % 2 == 0 { &one } else { &other }, secret(&format!("k00{turn}")));
            scene.rotate(&scene.bearer, &key.name, &next).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (here, there, ()) = join3(hammer(&one), hammer(&other), rotate).await;
    let endings = served(&sim).split_off(before);
    assert_eq!(endings.len(), here + there, "each call was made once");
    assert!(endings.iter().all(|ending| ending.starts_with("k00")), "none by the platform's: {endings:?}");
    assert!((0..=8).filter(|turn| endings.contains(&format!("k00{turn}"))).count() > 4, "{endings:?}");
}

#[tokio::test]
async fn a_stream_ends_by_the_key_that_it_began_with_though_it_is_deleted_meanwhile() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    let key = scene.store(&scene.bearer, Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let mut parts = scene.stream(&streamed(40, "chunk_ms=10")).await.unwrap();
    parts.message().await.unwrap().unwrap();
    scene.delete(&scene.bearer, &key.name).await.unwrap();
    let (text, accounting, failure) = Scene::whole(parts).await;
    assert!(failure.is_none() && text.contains("[DONE]"), "{failure:?}");
    assert_eq!(accounting.unwrap().provider_key, key.name);
    scene.invoke(&chat(1, "")).await.unwrap();
    assert_eq!(served(&sim), ["mine", "0000"]);
    scene
        .eventually("both are settled, one at no cost", async |scene| {
            let recorded = scene.siblings.recorded.lock();
            recorded.len() == 2 && recorded.values().filter(|event| event.cost_nano_usd == 0).count() == 1
        })
        .await;
}
