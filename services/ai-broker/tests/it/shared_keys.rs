//! What one broker finds out about a key, all brokers know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join;
use weir_proto::common::v1::ErrorReason;
use weir_simulator::{Fault, Options, Simulator};

use crate::scene::{Scene, chat};

const LOOK: &str = "rests.look = \"10ms\"\n";

async fn simulator() -> Arc<Simulator> {
    Arc::new(Simulator::start(Options::default()).await.unwrap())
}

fn config(simulator: &Simulator, keys: &[&str], settings: &str) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("\"{key}\" = \"{key}\"")).collect();
    format!(
        "{LOOK}{settings}[broker.providers.sim]\nbase_url = \"{}\"\nprice_list = \"simulated\"\nkeys = {{ {} }}\nmax_wait = \"0s\"\n",
        simulator.base_url(),
        keys.join(", ")
    )
}

fn fails(simulator: &Simulator, key: &str, simulate: &str) {
    let simulate = simulate.parse().unwrap();
    simulator.add_fault(Fault { api_key: Some(key.into()), simulate, ..Fault::default() });
}

fn calls_of(simulator: &Simulator, ending: &str) -> usize {
    simulator.served().iter().filter(|served| served.api_key.ends_with(ending)).count()
}

#[tokio::test]
async fn a_key_that_one_broker_found_limited_or_dead_is_not_asked_by_another_a_second_later() {
    let redis = weir_testing::redis().await.unwrap();
    for fault in ["status=429,retry_after=60", "status=401"] {
        let sim = simulator().await;
        let config = config(&sim, &["sk-aaaa", "sk-bbbb"], "");
        // The providers of the two rounds are different ones: their keys have different names.
        let config =
            config.replace("providers.sim", if fault.contains("429") { "providers.sim1" } else { "providers.sim2" });
        let one = Scene::configured(&sim, Some(&redis), &config).await;
        let other = Scene::configured(&sim, Some(&redis), &config).await;
        fails(&sim, "sk-aaaa", fault);
        for _ in 0..4 {
            one.invoke(&chat(1, "")).await.unwrap();
        }
        assert_eq!(calls_of(&sim, "aaaa"), 1, "{fault}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..6 {
            other.invoke(&chat(1, "")).await.unwrap();
        }
        assert_eq!(calls_of(&sim, "aaaa"), 1, "{fault}");
        assert_eq!(calls_of(&sim, "bbbb"), 10, "{fault}");
    }
}

#[tokio::test]
async fn a_limited_key_costs_one_call_per_rest_over_all_brokers() {
    let redis = weir_testing::redis().await.unwrap();
    let sim = simulator().await;
    let config = config(&sim, &["sk-aaaa"], "");
    let one = Scene::configured(&sim, Some(&redis), &config).await;
    let other = Scene::configured(&sim, Some(&redis), &config).await;
    fails(&sim, "sk-aaaa", "status=429,retry_after=0.5");
    let began = Instant::now();
    let hammer = async |scene: &Scene| {
        while began.elapsed() < Duration::from_secs(4) {
            let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
            assert_eq!(failure.reason(), ErrorReason::ProviderExhausted);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    join(hammer(&one), hammer(&other)).await;
    // The first call of each may come before either knows.
    let most = began.elapsed().as_millis() / 500 + 2;
    assert!(calls_of(&sim, "aaaa") as u128 <= most, "{} of {most}", calls_of(&sim, "aaaa"));
    sim.clear_faults();
    let well = async |scene: &Scene| scene.invoke(&chat(1, "")).await.is_ok();
    one.eventually("it serves one again", well).await;
    other.eventually("and the other", well).await;
}

#[tokio::test]
async fn without_each_other_brokers_go_by_what_they_find_out_themselves() {
    let redis = weir_testing::private_redis().await.unwrap();
    let sim = simulator().await;
    let scene = Scene::configured(&sim, Some(&redis), &config(&sim, &["sk-aaaa", "sk-bbbb"], "")).await;
    redis.kill().await.unwrap();
    fails(&sim, "sk-aaaa", "status=429,retry_after=60");
    for _ in 0..6 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!((calls_of(&sim, "aaaa"), calls_of(&sim, "bbbb")), (1, 6));
}

#[tokio::test]
async fn one_request_that_fails_everywhere_does_not_take_the_keys_away() {
    let sim = simulator().await;
    let scene = Scene::configured(&sim, None, &config(&sim, &["sk-aaaa", "sk-bbbb"], "max_attempts = 10\n")).await;
    scene.invoke(&chat(1, "status=500")).await.unwrap_err();
    scene.invoke(&chat(1, "status=401")).await.unwrap_err();
    for _ in 0..4 {
        scene.invoke(&chat(1, "")).await.unwrap();
    }
    scene.invoke(&chat(1, "status=403")).await.unwrap_err();
    let mut other = chat(1, "");
    other["model"] = "sim-large".into();
    scene.invoke(&other).await.unwrap();
}
