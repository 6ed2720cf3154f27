//! `deploy/scenarios/agent-tasks`: a price for each agent, agents and tasks by plan, and whether one may asked beforehand, with the
//! agents' server replaced.

use chrono::{Datelike as _, NaiveDate, Utc};
use futures::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use weir_integration_tests::books::{Book, Books};
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;
use weir_integration_tests::totals::Totals;
use weir_proto::billing::v1::{Limit, OnFailure, Window, window};

use crate::scenarios::{Scenario, Stage, no_day_ends_soon, set};

const SCENARIO: Scenario = Scenario("agent-tasks");
/// In nano-dollars.
const AGENTS: [(&str, i64); 5] = [
    ("claude", 500_000_000),
    ("codex", 300_000_000),
    ("perplexity", 200_000_000),
    ("cursor", 250_000_000),
    ("opencode", 0),
];

/// The scenario's configuration, for the simulated provider.
fn config(provider: &Provider) -> String {
    let mut config = SCENARIO.config();
    set(&mut config, &["broker", "providers", "agents", "base_url"], format!("http://{}/v1", provider.address()));
    set(&mut config, &["broker", "providers", "agents", "keys", "main"], "sk-agents");
    toml::to_string(&config).unwrap()
}

async fn begin() -> Stage {
    Stage::begin(&[], config).await
}

fn task(agent: &str, simulate: &str) -> Value {
    let messages = json!([{"role": "user", "content": "fix the build"}]);
    json!({"model": agent, "messages": messages, "metadata": {"simulate": simulate}})
}

impl Stage {
    async fn start_task(&self, user: &Tenant, agent: &str) -> Response {
        self.send(self.post(user, "/v1/chat/completions").json(&task(agent, ""))).await
    }

    async fn may(&self, user: &Tenant, agent: &str, feature: &str) -> Value {
        let call = json!({"operation": "chat.completions", "body": task(agent, ""), "feature": feature});
        self.api(user, reqwest::Method::POST, "/api/v1/preflight", &call).await
    }

    async fn tasks_used(&self, user: &Tenant) -> i64 {
        let balance = self.api(user, reqwest::Method::GET, "/api/v1/balance", &Value::Null).await;
        let limits = balance["limits"].as_array().unwrap();
        limits.iter().find(|limit| limit["name"] == "tasks").unwrap()["used"].as_i64().unwrap()
    }
}

/// The free plan's, for somebody who may ask more often: only the tasks are in his way.
fn patient() -> Limit {
    let minute = window::Kind::Rolling(prost_types::Duration { seconds: 60, nanos: 0 });
    Limit {
        name: "requests-per-minute".to_owned(),
        scope: "user".to_owned(),
        unit: "request".to_owned(),
        amount: 1_000,
        window: Some(Window { kind: Some(minute) }),
        on_failure: OnFailure::Local.into(),
        alert_percents: Vec::new(),
    }
}

/// When the month's tasks are there again.
fn next_month() -> String {
    let today = Utc::now().date_naive();
    let first = NaiveDate::from_ymd_opt(today.year(), today.month(), 1).unwrap();
    format!("resets on {} 00:00 UTC", first + chrono::Months::new(1))
}

#[tokio::test]
async fn each_agents_price_is_charged_once_for_a_task() {
    let stage = begin().await;
    no_day_ends_soon().await;
    let user = stage.user("pro", Vec::new()).await;
    for (agent, price) in AGENTS {
        // One task, whatever is sent how often; the first two at once.
        let start = || {
            let request = stage.post(&user, "/v1/chat/completions").json(&task(agent, ""));
            stage.send(request.header("idempotency-key", format!("task-of-{agent}")))
        };
        let (one, other) = tokio::join!(start(), start());
        let again = start().await;
        assert_eq!([&one, &other, &again].map(|answer| answer.status().as_u16()), [200; 3]);
        let told: Value = again.headers()["weir-cost-usd"].to_str().unwrap().parse().unwrap();
        assert_eq!(told.as_f64(), Some(price as f64 / 1e9));

        // Another one as a job, whose agent fails at first.
        let body = task(agent, "status=500,fail_times=1");
        let job = json!({"steps": [{"key": "task", "operation": "chat.completions", "body": body}]});
        let done = stage.job(&user, &job).await;
        assert_eq!(done["steps"][0]["result"]["cost_nano_usd"], price, "{done}");
        // And one that is none: the agent refuses it.
        let request = stage.post(&user, "/v1/chat/completions").json(&task(agent, "status=400"));
        assert_eq!(stage.send(request).await.status(), 400);
    }
    let records = stage.records(&user).await;
    for (agent, price) in AGENTS {
        let of: Vec<_> = records.iter().filter(|record| record["model"] == agent).collect();
        assert_eq!(of.len(), 2, "{agent}: {records:?}");
        for record in of {
            assert_eq!(record["cost_nano_usd"], price, "{record}");
            assert!(record["user_id"].is_string() && record["time"].is_string(), "{record}");
        }
    }
    assert_eq!(stage.tasks_used(&user).await, 10);
    let books = Books::of(&stage.deployment.siblings, std::slice::from_ref(&user.organization)).await.unwrap();
    let Totals { input_tokens, output_tokens, .. } = books.usage.totals;
    let totals = Totals { requests: 10, input_tokens, output_tokens, cost_nano_usd: 2_500_000_000 };
    let book = Book { totals, estimated: 0 };
    assert_eq!((books.quota, books.usage, books.billing), (book, book, book));
    stage.end().await;
}

#[tokio::test]
async fn a_plan_has_its_agents_and_its_tasks_and_says_why_not() {
    let stage = begin().await;
    no_day_ends_soon().await;
    // Other agents than the free plan's.
    let user = stage.user("free", vec![patient()]).await;
    for (agent, price) in AGENTS.into_iter().filter(|(agent, _)| *agent != "opencode") {
        let told = stage.may(&user, agent, "").await;
        assert_eq!((&told["allowed"], &told["reason"]), (&json!(false), &json!("model_not_allowed")), "{told}");
        assert_eq!((&told["cost_nano_usd"], &told["model"]), (&json!(price), &json!(agent)), "{told}");
        let refused = stage.start_task(&user, agent).await;
        assert_eq!(refused.status(), 403);
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["error"]["message"], told["message"]);
        let why = format!("The model `{agent}` is not part of the plan `free`.");
        assert_eq!(told["message"], why);
    }
    let told = stage.may(&user, "opencode", "private-sandbox").await;
    assert_eq!((&told["allowed"], &told["reason"]), (&json!(false), &json!("feature_not_allowed")), "{told}");

    // Asking consumes nothing, however often.
    let asked = join_all((0..30).map(|_| stage.may(&user, "opencode", "shared-sandbox"))).await;
    for told in &asked {
        assert_eq!((&told["allowed"], &told["cost_usd"], &told["reason"]), (&json!(true), &json!("0"), &Value::Null));
    }
    assert_eq!(stage.tasks_used(&user).await, 0);

    // A hundred at once: ten tasks, exactly.
    let month = next_month();
    let answers = join_all((0..100).map(|_| stage.start_task(&user, "opencode"))).await;
    let (started, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert_eq!(started.len(), 10);
    let mut words = String::new();
    for answer in refused {
        assert_eq!(answer.status(), 429);
        let told: Value = answer.json().await.unwrap();
        told["error"]["message"].as_str().unwrap().clone_into(&mut words);
        assert!(words.contains("10 of 10 tasks used") && words.contains(&month), "{words}");
    }
    assert_eq!(stage.tasks_used(&user).await, 10);
    let told = stage.may(&user, "opencode", "").await;
    assert_eq!((&told["allowed"], &told["reason"]), (&json!(false), &json!("quota_exceeded")), "{told}");
    assert_eq!((&told["message"], &told["limits"]), (&json!(words), &json!(["tasks"])), "{told}");
    assert!(told["retry_after_seconds"].as_i64() > Some(0), "{told}");
    assert_eq!(stage.deployment.provider.stats().await.unwrap().requests, 10, "nobody else has heard of an agent");

    // Another plan: the tasks of the month stay used, and there are more of them.
    user.subscribe(&stage.deployment.siblings, "plans/pro", Vec::new()).await.unwrap();
    stage.until("pro is seen", async || stage.may(&user, "claude", "").await["allowed"] == true).await;
    let told = stage.may(&user, "claude", "").await;
    assert_eq!((&told["cost_nano_usd"], &told["cost_usd"]), (&json!(500_000_000), &json!("0.5")), "{told}");
    let answers = join_all((0..95).map(|_| stage.start_task(&user, "opencode"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == 200).count(), 90);

    // Five requests a minute.
    let user = stage.user("free", Vec::new()).await;
    let answers = join_all((0..6).map(|_| stage.start_task(&user, "opencode"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == 200).count(), 5);
    let told = stage.may(&user, "opencode", "").await;
    assert_eq!((&told["allowed"], &told["limits"]), (&json!(false), &json!(["requests-per-minute"])), "{told}");

    // As many as one likes.
    let user = stage.user("enterprise", Vec::new()).await;
    assert_eq!(stage.may(&user, "cursor", "private-sandbox").await["allowed"], true);
    let answers = join_all((0..101).map(|_| stage.start_task(&user, "opencode"))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let plans = stage.api(&user, reqwest::Method::GET, "/api/v1/plans", &Value::Null).await;
    let price = |plan: &str| {
        plans["plans"].as_array().unwrap().iter().find(|one| one["id"] == plan).unwrap()["price_usd"].clone()
    };
    assert_eq!(["free", "pro", "enterprise"].map(price), [json!("0"), json!("19"), json!("99")]);
    stage.end().await;
}
