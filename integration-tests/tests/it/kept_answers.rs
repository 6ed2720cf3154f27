//! Kept answers in the books of all services, with a broker that is killed while it counts them.

use std::time::Duration;

use serde_json::{Value, json};
use weir_integration_tests::books::{self, Books};
use weir_integration_tests::deployment::{Mode, Options};

use crate::{World, asking, with};

const ROUTE: &str =
    "[broker.routes.kept]\nprovider = \"simulated\"\nmodel = \"gpt-4o-mini\"\ncache = { ttl = \"1h\" }\n";

impl World {
    /// Turns keeping on, for which a busy machine may need more than one try.
    async fn keep(&self) {
        for _ in 0..100 {
            let asked = self.client.put(self.url("/api/v1/cache")).bearer_auth(&self.tenant.secret);
            if asked.json(&json!({"enabled": true})).send().await.unwrap().status().is_success() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("keeping can't be turned on");
    }

    /// Whether it was answered, and with a kept answer.
    async fn ask_kept(&self) -> (bool, bool) {
        let answer = self.chat(&with(asking(""), &json!({"model": "kept"}))).await;
        let is_cached = answer.headers().get("weir-cached").is_some();
        let is_ok = answer.status() == 200;
        if is_ok {
            assert_eq!(answer.json::<Value>().await.unwrap()["cached"] == true, is_cached);
        }
        (is_ok, is_cached)
    }

    /// Asks until so many kept answers were given; how many other calls that took.
    async fn hits(&self, wanted: u32) -> u32 {
        let (mut hits, mut calls) = (0, 0);
        while hits < wanted {
            match self.ask_kept().await {
                (true, true) => hits += 1,
                (true, false) => calls += 1,
                (false, _) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        calls
    }
}

#[tokio::test]
async fn a_killed_broker_loses_a_moment_of_kept_answers_and_no_money() {
    let mut world = World::start(Options { more_config: ROUTE.to_owned(), ..Options::new(Mode::Separate) }).await;
    world.keep().await;
    let mut calls = world.hits(50).await;
    world.deployment.kill9("ai-broker").await.unwrap();
    world.deployment.restart("ai-broker").await.unwrap();
    calls += world.hits(50).await;
    books::settle(&world.deployment.siblings, Duration::from_secs(60)).await.unwrap();
    let organizations = std::slice::from_ref(&world.tenant.organization);
    // The last ones are told to usage within moments, and rated a moment later.
    let mut books = Books::default();
    for _ in 0..600 {
        // Billing gives no statement that lacks an event.
        if let Ok(read) = Books::of(&world.deployment.siblings, organizations).await {
            books = read;
            let counted = books.usage.totals.requests - books.quota.totals.requests;
            if counted >= 50 && books.billing == books.usage {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (quota, usage) = (books.quota.totals, books.usage.totals);
    assert_eq!(quota.requests, i64::from(calls), "each call of the provider once");
    let counted = usage.requests - quota.requests;
    assert!((50..=100).contains(&counted), "{counted} of 100");
    assert_eq!(books.usage, books.billing);
    assert_eq!(
        (usage.cost_nano_usd, usage.input_tokens),
        (quota.cost_nano_usd, quota.input_tokens),
        "nothing is charged for them"
    );
    let audited = world.deployment.audit().await.unwrap();
    assert!(audited.clean, "{}", audited.text);
}
