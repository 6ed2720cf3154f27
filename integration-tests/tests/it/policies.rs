//! Plans and limits of one's own, from billing's RPC to what a client sees.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_integration_tests::deployment::{Mode, Options};
use weir_proto::billing::v1::{Lifetime, Limit, OnFailure, SetSubscriptionRequest, Window, window};

use crate::{World, asking};

fn budget(amount: i64) -> Limit {
    Limit {
        name: "budget".to_owned(),
        scope: "organization".to_owned(),
        unit: "nano_usd".to_owned(),
        amount,
        window: Some(Window { kind: Some(window::Kind::Lifetime(Lifetime {})) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: vec![1, 100],
    }
}

async fn subscribe(world: &World, plan: &str, overrides: Vec<Limit>) {
    let organization = world.tenant.organization.clone();
    let request = SetSubscriptionRequest { organization, plan: format!("plans/{plan}"), overrides };
    world.deployment.siblings.billing().set_subscription(request).await.unwrap();
}

async fn get(world: &World, path: &str) -> Value {
    world.get(path).send().await.unwrap().json().await.unwrap()
}

async fn limit(world: &World, name: &str) -> Value {
    let balance = get(world, "/api/v1/balance").await;
    let limits = balance["limits"].as_array().unwrap().clone();
    limits.into_iter().find(|limit| limit["name"] == name).unwrap_or_default()
}

/// Asks until the condition holds; answers how long that took.
async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_limit_of_ones_own_wins_over_the_plans_and_changes_apply_without_losing_a_count() {
    let world = World::start(Options::new(Mode::Separate)).await;
    subscribe(&world, "pro", vec![budget(1_000_000_000)]).await;
    until("the own limit never applied", async || limit(&world, "budget").await["limit"] == 1_000_000_000).await;
    assert_eq!(world.chat(&asking("")).await.status(), 200);
    until("the call was never settled", async || {
        let budget = limit(&world, "budget").await;
        budget["held"] == 0 && budget["used"].as_i64() > Some(0)
    })
    .await;
    let used = limit(&world, "budget").await["used"].as_i64().unwrap();

    // Lower than what is used: the next call is refused.
    subscribe(&world, "pro", vec![budget(used / 2)]).await;
    let lag = until("the lower limit never applied", async || world.chat(&asking("")).await.status() == 402).await;
    println!("from SetSubscription to the first refusal: {lag:?}");
    let now = limit(&world, "budget").await;
    assert_eq!((&now["limit"], now["used"].as_i64() >= Some(used)), (&json!(used / 2), true));

    // Another plan: the own limit stays what it is, and so does its counter; the plan's others are the new plan's.
    let per_minute = limit(&world, "requests-per-minute").await;
    subscribe(&world, "enterprise", vec![budget(2_000_000_000)]).await;
    until("the plan never changed", async || limit(&world, "requests-per-minute").await["limit"] == 6_000).await;
    assert_eq!(per_minute["scope"], "user");
    assert_eq!(limit(&world, "budget").await["limit"], 2_000_000_000);
    assert!(limit(&world, "budget").await["used"].as_i64() >= Some(used));
    assert_eq!(world.chat(&asking("")).await.status(), 200);

    // And who asks why is told: the refusals, the calls, and the alerts that they set off.
    let explained = get(&world, "/api/v1/limits/explain?page_size=100").await;
    let decisions = explained["decisions"].as_array().unwrap();
    let states: Vec<&str> = decisions.iter().filter_map(|decision| decision["state"].as_str()).collect();
    assert!(states.contains(&"refused") && states.contains(&"committed"), "{explained}");
    let refused = decisions.iter().find(|decision| decision["state"] == "refused").unwrap();
    assert_eq!(refused["reason"], "budget_exhausted");
    let alerts = get(&world, "/api/v1/alerts").await;
    assert!(alerts["alerts"].as_array().unwrap().iter().any(|alert| alert["percent"] == 100), "{alerts}");
    world.books().await;
}
