//! Limits that the platform's keys have of their own: held by quota over all brokers and tenants, from the first call of a key on.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_integration_tests::deployment::{Mode, Options};
use weir_integration_tests::process::weir_executable;
use weir_integration_tests::provider::Provider;
use weir_simulator::Served;

use crate::brokers::{most_within, second_broker, started_anew};
use crate::{World, asking, with};

const MINUTE_MS: u64 = 60_000;

/// A provider with these keys, and a route to it.
fn pooled(address: &str, keys: &str) -> String {
    format!(
        "[broker.providers.pooled]\nbase_url = \"http://{address}/v1\"\nprice_list = \"openai\"\nmax_wait = \"0s\"\n{keys}\n\
         [broker.routes.pooled]\nprovider = \"pooled\"\nmodel = \"gpt-4o-mini\"\n"
    )
}

impl World {
    /// What the provider has served with a key that ends so.
    async fn served_with(&self, ending: &str) -> Vec<Served> {
        let served = self.deployment.provider.served().await.unwrap();
        served.into_iter().filter(|served| served.api_key.ends_with(ending)).collect()
    }

    async fn write_keys(&self, keys: &str) {
        let file = self.deployment.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        let (before, _) = config.split_once("[broker.providers.pooled]").unwrap_or((&config, ""));
        let address = self.deployment.provider.address().to_string();
        std::fs::write(file, before.to_owned() + &pooled(&address, keys)).unwrap();
    }
}

#[tokio::test]
async fn a_key_that_a_reload_adds_is_held_to_its_limits_from_its_first_call_on() {
    let world = World::start(Options::new(Mode::Separate)).await;
    let zero = started_anew(&world.deployment.provider).await;
    let call = with(asking(""), &json!({"model": "pooled"}));
    let ok = async || world.chat(&call).await.status() == 200;
    let first = "keys.first = { secret = \"sk-simulated-aaaa\", requests_per_minute = 2 }";
    for (keys, ending) in [
        (first.to_owned(), "aaaa"),
        (format!("{first}\nkeys.second = {{ secret = \"sk-simulated-bbbb\", requests_per_minute = 2 }}"), "bbbb"),
    ] {
        world.write_keys(&keys).await;
        for _ in 0..600 {
            if !world.served_with(ending).await.is_empty() {
                break;
            }
            ok().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..8 {
            ok().await;
        }
        let served = world.served_with(ending).await;
        assert!(served.len() >= 2, "{} of {ending}", served.len());
    }
    for ending in ["aaaa", "bbbb"] {
        let served = world.served_with(ending).await;
        assert!(served.iter().all(|served| served.status == 200));
        assert_eq!(most_within(&served, zero, MINUTE_MS, |_| 1), 2, "{ending}");
    }
    world.books().await;
}

#[tokio::test]
async fn keys_are_never_beyond_their_limits_whatever_two_brokers_do_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::start(&weir_executable().unwrap(), dir.path(), &["--latency-ms", "200"]).await.unwrap();
    let keys = "keys.requests = { secret = \"sk-simulated-aaaa\", requests_per_minute = 4 }\n\
                keys.tokens = { secret = \"sk-simulated-bbbb\", tokens_per_minute = 400 }\n\
                keys.calls = { secret = \"sk-simulated-cccc\", requests_per_minute = 12, concurrency = 1 }";
    let more_config = pooled(&provider.address().to_string(), keys);
    let options = Options { provider: Some(Rc::new(provider)), more_config, ..Options::new(Mode::Separate) };
    let world = World::start(options).await;
    let _second = second_broker(&world.deployment).await;
    let zero = started_anew(&world.deployment.provider).await;
    let job = json!({"steps": [{"key": "one", "operation": "chat.completions", "body": with(asking(""), &json!({"model": "pooled"}))}]});
    let mut jobs = Vec::new();
    for _ in 0..60 {
        let created = world.post("/api/v1/jobs").json(&job).send().await.unwrap();
        // A machine that is busy may turn one away.
        if created.status() == 201 {
            let created: Value = created.json().await.unwrap();
            jobs.push(created["id"].as_str().unwrap().to_owned());
        }
    }
    assert!(jobs.len() >= 50, "{} jobs", jobs.len());
    // Until each key has served what it may in a minute, as far as that can be told.
    for _ in 0..600 {
        if world.served_with("aaaa").await.len() >= 4 && world.served_with("cccc").await.len() >= 12 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for id in &jobs {
        let cancel = world.client.delete(world.url(&format!("/api/v1/jobs/{id}")));
        cancel.bearer_auth(&world.tenant.secret).send().await.unwrap();
    }
    world.books().await;
    let most = async |ending: &str, weight: fn(&Served) -> u64| {
        let served = world.served_with(ending).await;
        most_within(&served, zero, MINUTE_MS, weight)
    };
    assert_eq!(most("aaaa", |_| 1).await, 4);
    let tokens = most("bbbb", |served| served.input_tokens + served.output_tokens).await;
    assert!((1..=400).contains(&tokens), "{tokens} tokens");
    assert_eq!(most("cccc", |_| 1).await, 12);
    // One at a time: each has come after the answer to the one before, which takes 200 ms, was begun.
    let calls = world.served_with("cccc").await;
    assert!(calls.windows(2).all(|pair| pair[1].at_ms >= pair[0].at_ms + 199), "{calls:?}");
}
