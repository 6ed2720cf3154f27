//! Load levels: what is refused, changed and put off, who is let in, and when it is over.

use std::sync::Arc;
use std::time::Duration;

use weir_proto::broker::v1::{JobState, Operation};
use weir_proto::common::v1::ErrorReason;
use weir_simulator::{Options, Simulator};

use crate::jobs::{House, one_step};
use crate::scene::{Scene, chat, streamed, try_load};

/// Two levels, beyond two and beyond four calls.
const LEVELS: &str = "load.measure = \"10ms\"\ndrain = \"100ms\"\nload.hold = \"100ms\"\n\
    [[broker.load.levels]]\nname = \"high\"\nin_flight = 2\nrefuse = [\"embeddings\", \"sim-large\"]\ncheaper = [\"chat.*\"]\n\
    [[broker.load.levels]]\nname = \"critical\"\nin_flight = 4\nrefuse = [\"embeddings\"]\nmax_in_flight = 8\n";

/// A route with a cheaper model than its own.
const ROUTE: &str = "[broker.routes.best]\nprovider = \"sim\"\nmodel = \"sim-large\"\nnon_critical = \"sim-small\"\n";

async fn scene() -> Arc<Scene> {
    let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
    let config = format!(
        "settle_linger = \"1ms\"\n{LEVELS}[broker.providers.sim]\nbase_url = \"{}\"\nprice_list = \"simulated\"\n\
         keys = {{ k = \"sk-one\" }}\n{ROUTE}",
        provider.base_url()
    );
    Arc::new(Scene::configured(&provider, None, &config).await)
}

async fn reaches(scene: &Scene, expected: &str) {
    scene.eventually(expected, async |scene| scene.status().await.load_level == expected).await;
}

/// Calls under way until they are dropped.
pub(crate) async fn hold(scene: &Scene, calls: usize) -> Vec<impl Sized + use<>> {
    let mut held = Vec::new();
    for _ in 0..calls {
        let mut stream = scene.stream(&streamed(8, "hang_after=1")).await.unwrap();
        stream.message().await.unwrap();
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn a_level_refuses_and_goes_to_cheaper_models_until_it_is_left() {
    let scene = scene().await;
    let mut best = chat(1, "");
    best["model"] = "best".into();
    let answer = scene.invoke(&best).await.unwrap().accounting.unwrap();
    assert_eq!((answer.model.as_str(), answer.load_level.as_str(), answer.downgraded), ("sim-large", "", false));

    let held = hold(&scene, 3).await;
    reaches(&scene, "high").await;
    let answer = scene.invoke(&best).await.unwrap().accounting.unwrap();
    assert_eq!((answer.model.as_str(), answer.load_level.as_str(), answer.downgraded), ("sim-small", "high", true));
    let answer = scene.invoke_spare(&best).await.unwrap().accounting.unwrap();
    assert!(!answer.downgraded, "that is what it asked for");
    let answer = scene.invoke(&chat(1, "")).await.unwrap().accounting.unwrap();
    assert!(!answer.downgraded, "there is nothing cheaper");

    let before = scene.siblings.reserved.lock().len();
    let embedding = serde_json::json!({"model": "sim-embedding", "input": "x"});
    let refused = scene.invoke_as(Operation::Embeddings, &embedding).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::Overloaded);
    assert_eq!(refused.metadata("load_level"), Some("high"));
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(100)));
    assert!(refused.message().contains("embeddings"), "{}", refused.message());
    let mut large = chat(1, "");
    large["model"] = "sim-large".into();
    assert_eq!(scene.invoke(&large).await.unwrap_err().reason(), ErrorReason::Overloaded, "a model by its name");
    assert_eq!(scene.siblings.reserved.lock().len(), before, "nothing is reserved for what is refused");

    drop(held);
    reaches(&scene, "").await;
    scene.invoke(&large).await.unwrap();
}

#[tokio::test]
async fn who_has_less_than_his_share_is_let_in_and_nobody_beyond_the_bound() {
    let scene = scene().await;
    // Six of eight are free for all.
    let held = hold(&scene, 6).await;
    reaches(&scene, "critical").await;
    let more = hold(&scene, 2).await;
    let refused = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::Overloaded, "it has all that one tenant may have");
    assert_eq!(refused.metadata("load_level"), Some("critical"));
    scene.invoke_of_stranger(&chat(1, "")).await.unwrap();
    drop((held, more));
    reaches(&scene, "").await;
    scene.invoke(&chat(1, "")).await.unwrap();
}

#[tokio::test]
async fn a_call_that_waits_for_a_provider_too_long_is_load() {
    let levels = "load.measure = \"10ms\"\nload.hold = \"50ms\"\n[[broker.load.levels]]\nname = \"stuck\"\nqueue_wait = \"100ms\"\n";
    let scene = Arc::new(Scene::narrow(1, "30s", levels).await);
    scene.invoke(&chat(1, "")).await.unwrap();
    let waiting = {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move { scene.invoke(&chat(1, "")).await })
    };
    reaches(&scene, "stuck").await;
    waiting.await.unwrap().unwrap();
    reaches(&scene, "").await;
}

#[tokio::test]
async fn jobs_wait_while_a_level_defers_them() {
    let levels = "drain = \"100ms\"\nload.measure = \"10ms\"\nload.hold = \"50ms\"\n[[broker.load.levels]]\nname = \"busy\"\nin_flight = 1\ndefer_jobs = true\n";
    let house = House::with(Options::default(), levels).await;
    let held = hold(&house.scene, 2).await;
    reaches(&house.scene, "busy").await;
    // What was about to look for jobs has done so by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let job = house.scene.create(one_step("")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(house.scene.job(&job.name).await.state(), JobState::Queued);
    drop(held);
    house.scene.reaches(&job.name, JobState::Complete).await;
}

#[test]
fn levels_that_make_no_sense_are_refused() {
    let of = |levels: &str| try_load(levels).unwrap_err().to_string();
    let level = |name: &str, figures: &str| format!("[[broker.load.levels]]\nname = \"{name}\"\n{figures}\n");
    assert!(of(&level("high", "")).contains("has no figure"));
    assert!(of(&level("", "in_flight = 1")).contains("name"));
    assert!(of(&format!("{}{}", level("a", "in_flight = 2"), level("b", "in_flight = 1"))).contains("level before"));
    assert!(of(&format!("{}{}", level("a", "in_flight = 1"), level("a", "in_flight = 2"))).contains("another level"));
    assert!(of(&level("a", "cpu_percent = 100")).contains("below 100"));
    assert!(of(&level("a", "in_flight = 1\nmax_in_flight = 0")).contains("at least 1"));
}
