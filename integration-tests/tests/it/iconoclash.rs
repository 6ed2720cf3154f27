//! `deploy/scenarios/iconoclash`: messages a day by plan and by address, several Claude keys, spending with alerts, origins and
//! revocations, with Anthropic replaced.

use std::cell::Cell;
use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use toml::Table;
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;
use weir_proto::auth::v1::{CreateUserRequest, DisableUserRequest, Role};
use weir_proto::billing::v1::{CalendarUnit, CalendarWindow, Limit, OnFailure, Window, window};
use weir_proto::quota::v1::ListAlertsRequest;
use weir_simulator::Fault;

use crate::scenarios::{Scenario, Stage, no_day_ends_soon, set};

const SCENARIO: Scenario = Scenario("iconoclash");
const ORIGIN: &str = "https://iconoclash.example.com";
/// What all tenants share is told under this one.
const EVERYBODY: &str = "organizations/00000000-0000-0000-0000-000000000000";

/// The scenario's configuration, for the simulated provider.
fn config(provider: &Provider) -> Table {
    let mut config = SCENARIO.config();
    set(&mut config, &["broker", "providers", "anthropic", "base_url"], format!("http://{}/v1", provider.address()));
    for key in ["first", "second", "third"] {
        set(&mut config, &["broker", "providers", "anthropic", "keys", key], format!("sk-ant-{key}"));
    }
    // On a slow machine what others hold takes longer to come back.
    let slices: Table = "slices = { wait = \"5s\" }".parse().unwrap();
    config["quota"].as_table_mut().unwrap().extend(slices);
    // The tests' client is the proxy.
    assert_eq!(config["facade"]["trusted_proxies"], vec!["10.0.0.0/8"].into());
    set(&mut config, &["facade", "trusted_proxies"], vec!["127.0.0.0/8"]);
    config
}

async fn begin() -> Stage {
    Stage::begin(&[], |provider| toml::to_string(&config(provider)).unwrap()).await
}

fn message(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "hello there"}]);
    json!({"model": "chat", "max_tokens": 16, "stream": stream, "messages": messages})
}

impl Stage {
    fn message(&self, user: &Tenant) -> RequestBuilder {
        self.post(user, "/v1/messages").header("anthropic-version", "2023-06-01").json(&message(false))
    }

    async fn say(&self, user: &Tenant) -> Response {
        self.send(self.message(user)).await
    }

    async fn visit(&self, site: &Tenant, address: &str) -> Response {
        self.send(self.message(site).header("x-forwarded-for", address)).await
    }

    /// How many messages are answered of so many at once; the others are refused by the day's limit.
    async fn answered(&self, user: &Tenant, asked: usize) -> usize {
        let answers = join_all((0..asked).map(|_| self.say(user))).await;
        let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
        for answer in refused {
            is_refused(answer, 429, "messages-per-day").await;
        }
        answered.len()
    }

    /// A stream or a plain answer that is whole.
    async fn is_answered(&self, user: &Tenant, stream: bool) {
        let request = self.post(user, "/v1/messages").header("anthropic-version", "2023-06-01").json(&message(stream));
        // Not asked again: no request may fail.
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
        let end = if stream { "event: message_stop" } else { "\"stop_reason\"" };
        assert!(text.contains(end), "{text}");
    }

    /// How many requests the provider has taken with a key.
    async fn served_with(&self, key: &str) -> usize {
        let served = self.deployment.provider.served().await.unwrap();
        {
            let end = &key[key.len() - 4..];
            served.iter().filter(|served| served.api_key.ends_with(end) && served.status == 200).count()
        }
    }

    /// A limit's alerts that have fired so far, once each.
    async fn fired(&self, organization: &str, limit: &str) -> Vec<i32> {
        let request = ListAlertsRequest { parent: organization.to_owned(), ..ListAlertsRequest::default() };
        let alerts = self.deployment.siblings.quota().list_alerts(request).await.unwrap().into_inner().alerts;
        let mut fired: Vec<_> = alerts.iter().filter(|alert| alert.limit == limit).map(|alert| alert.percent).collect();
        fired.sort_unstable();
        fired
    }

    async fn spends_until_refused(&self, user: &Tenant, by: &str) -> usize {
        for said in 0..200 {
            let answer = self.say(user).await;
            if answer.status() != 200 {
                is_refused(answer, 402, by).await;
                return said;
            }
        }
        panic!("{by} never refuses");
    }
}

async fn is_refused(answer: Response, status: u16, by: &str) {
    let found = answer.status();
    let text = answer.text().await.unwrap();
    assert!(found == status && text.contains(by), "not {status} by {by}: {found} {text}");
}

/// In the place of the plan's limit of the same name.
fn limit(name: &str, unit: &str, amount: i64, window: CalendarUnit, alert_percents: Vec<i32>) -> Limit {
    let calendar = window::Kind::Calendar(CalendarWindow { unit: window.into(), time_zone: String::new() });
    Limit {
        name: name.to_owned(),
        scope: "organization".to_owned(),
        unit: unit.to_owned(),
        amount,
        window: Some(Window { kind: Some(calendar) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents,
    }
}

fn talkative() -> Limit {
    limit("messages-per-day", "chat_request", 100_000, CalendarUnit::Day, Vec::new())
}

fn spending(amount: i64) -> Limit {
    limit("spending", "nano_usd", amount, CalendarUnit::Month, vec![50, 80, 100])
}

#[tokio::test]
async fn messages_a_day_are_counted_by_plan_and_by_address_whatever_is_restarted() {
    let mut stage = begin().await;
    no_day_ends_soon().await;
    let user = stage.user("free", Vec::new()).await;
    assert_eq!(stage.answered(&user, 15).await, 10);

    // Visitors: three messages from each address, whoever else is there.
    let site = stage.user("anonymous", Vec::new()).await;
    for address in ["203.0.113.7", "2001:db8::7"] {
        for _ in 0..3 {
            assert_eq!(stage.visit(&site, address).await.status(), 200);
        }
        is_refused(stage.visit(&site, address).await, 429, "messages-per-day").await;
    }

    // Everything is killed, and Redis has nothing left.
    for name in ["all", "redis"] {
        stage.deployment.kill9(name).await.unwrap();
    }
    for name in ["redis", "all"] {
        stage.deployment.restart(name).await.unwrap();
    }
    stage.deployment.ready().await.unwrap();
    // What the process that was killed had of the spending is there again after a moment; until then nobody is answered.
    stage
        .until("the day's messages are used", async || {
            let answer = stage.say(&user).await;
            assert_eq!(answer.status(), 429);
            answer.text().await.unwrap().contains("messages-per-day")
        })
        .await;
    assert_eq!(stage.answered(&user, 3).await, 0);
    is_refused(stage.visit(&site, "203.0.113.7").await, 429, "messages-per-day").await;
    assert_eq!(stage.visit(&site, "203.0.113.8").await.status(), 200);

    // Another plan is seen at once, and what was said today stays said.
    user.subscribe(&stage.deployment.siblings, "plans/pro", Vec::new()).await.unwrap();
    stage.until("pro is seen", async || stage.say(&user).await.status() == 200).await;
    assert_eq!(stage.answered(&user, 95).await, 89);
    stage.end().await;
}

#[tokio::test]
async fn no_request_fails_while_one_key_is_dead_one_is_limited_and_one_is_rotated() {
    let stage = begin().await;
    let user = stage.user("pro", vec![talkative()]).await;
    let provider = &stage.deployment.provider;
    let fails = async |key: &str, how: &str| {
        let fault = Fault { api_key: Some(key.to_owned()), simulate: how.parse().unwrap(), ..Fault::default() };
        provider.add_fault(&fault).await.unwrap();
    };
    let serves = async |key: &str| {
        let before = stage.served_with(key).await;
        stage.until(key, async || stage.served_with(key).await >= before + 5).await;
    };
    let done = Cell::new(false);
    let load = async {
        while !done.get() {
            join_all((0..6).map(|nth| stage.is_answered(&user, nth % 2 == 0))).await;
        }
    };
    let changes = async {
        for key in ["sk-ant-first", "sk-ant-second", "sk-ant-third"] {
            serves(key).await;
        }
        fails("sk-ant-first", "status=401").await;
        fails("sk-ant-second", "status=429,retry_after=60").await;
        serves("sk-ant-third").await;
        let file = stage.deployment.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        assert!(config.contains("sk-ant-third"));
        std::fs::write(file, config.replace("sk-ant-third", "sk-ant-fourth")).unwrap();
        serves("sk-ant-fourth").await;
        fails("sk-ant-third", "status=401").await;
        serves("sk-ant-fourth").await;
        done.set(true);
    };
    tokio::join!(load, changes);

    // What is not critical goes to Haiku, and costs what that costs.
    let models = async |request: RequestBuilder| {
        let answer = stage.send(request).await;
        assert_eq!(answer.status(), 200);
        answer.headers()["weir-model"].to_str().unwrap().to_owned()
    };
    let light = stage.message(&user).header("weir-priority", "non-critical");
    assert_eq!(models(stage.message(&user)).await, "claude-sonnet-4-5");
    assert_eq!(models(light).await, "claude-haiku-4-5");
    let records = stage.records(&user).await;
    let cost = |model: &str| records.iter().find(|record| record["model"] == model).unwrap()["cost_nano_usd"].as_i64();
    assert_eq!(cost("claude-sonnet-4-5"), cost("claude-haiku-4-5").map(|cost| 3 * cost), "a third of the price");
    stage.end().await;
}

#[tokio::test]
async fn spending_is_limited_by_user_by_plan_and_for_the_whole_product_with_alerts() {
    const USER: i64 = 4_000_000;
    let stage = Stage::begin(&[], |provider| {
        let mut config = config(provider);
        let shared = config["quota"]["shared"].as_array_mut().unwrap();
        for (limit, (before, now)) in shared.iter_mut().zip([("200.00", "0.006"), ("2000.00", "0.012")]) {
            let limit = limit.as_table_mut().unwrap();
            assert_eq!(limit["amount"].as_str(), Some(before));
            set(limit, &["amount"], now);
        }
        toml::to_string(&config).unwrap()
    });
    let stage = stage.await;
    no_day_ends_soon().await;
    // One user's own, with alerts that he sees himself.
    let user = stage.user("free", vec![talkative(), spending(USER)]).await;
    assert!(stage.spends_until_refused(&user, "spending").await > 1);
    stage
        .until("the user is warned", async || stage.fired(&user.organization, "spending").await == [50, 80, 100])
        .await;
    let seen = stage.api(&user, Method::GET, "/api/v1/alerts", &Value::Null).await;
    let percents: BTreeSet<_> =
        seen["alerts"].as_array().unwrap().iter().map(|alert| alert["percent"].as_i64()).collect();
    assert_eq!(percents, [50, 80, 100].map(Some).into());

    // All of the free plan together: the next one gets what is left.
    let other = stage.user("free", vec![talkative()]).await;
    assert!(stage.spends_until_refused(&other, "spending-of-the-free-plan").await > 1);
    // The product as a whole.
    let pro = stage.user("pro", vec![talkative()]).await;
    assert!(stage.spends_until_refused(&pro, "refused by spending:").await > 1);
    for (limit, percents) in [("spending-of-the-free-plan", &[50, 80, 100][..]), ("spending", &[50, 80, 90, 100])] {
        stage.until(limit, async || stage.fired(EVERYBODY, limit).await == percents).await;
    }
    assert_eq!(stage.fired(&user.organization, "spending").await, [50, 80, 100], "once each");
    let mut total = 0;
    for user in [&user, &other, &pro] {
        let records = stage.records(user).await;
        total += records.iter().filter_map(|record| record["cost_nano_usd"].as_i64()).sum::<i64>();
    }
    assert!(total <= 12_000_000, "{total}");
    stage.end().await;
}

#[tokio::test]
async fn pages_of_one_origin_may_call_and_what_is_revoked_stops() {
    let stage = begin().await;
    let user = stage.user("free", Vec::new()).await;
    let allowed = async |origin: &str| {
        let ask = stage.request(Method::OPTIONS, "/v1/messages").header("origin", origin);
        let ask =
            ask.header("access-control-request-method", "POST").header("access-control-request-headers", "x-api-key");
        let answer = ask.send().await.unwrap();
        answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(ORIGIN).await.as_deref(), Some(ORIGIN));
    for other in ["https://evil.example.com", "http://iconoclash.example.com", "null"] {
        assert_eq!(allowed(other).await, None, "{other}");
    }

    // A key is withdrawn by whoever manages keys.
    let key = json!({"display_name": "browser", "scopes": ["ai.invoke"]});
    let key = stage.api(&user, Method::POST, "/api/v1/keys", &key).await;
    let holder = Tenant { secret: key["secret"].as_str().unwrap().to_owned(), ..user.clone() };
    assert_eq!(stage.say(&holder).await.status(), 200);
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    stage.api(&user, Method::DELETE, &path, &Value::Null).await;
    stage.until("the key is refused", async || stage.say(&holder).await.status() == 401).await;

    // Somebody who has signed in is shut out.
    let auth = || stage.deployment.siblings.auth();
    let (email, password) = ("guest@example.com", "correct horse battery");
    let guest = CreateUserRequest {
        parent: user.organization.clone(),
        email: email.to_owned(),
        display_name: "Guest".to_owned(),
        role: Role::Member.into(),
        password: password.to_owned(),
    };
    let guest = auth().create_user(guest).await.unwrap().into_inner().name;
    let sign_in = stage.request(Method::POST, "/api/v1/tokens").json(&json!({"email": email, "password": password}));
    let token: Value = stage.send(sign_in).await.json().await.unwrap();
    let guest_user = Tenant { secret: token["token"].as_str().unwrap().to_owned(), ..user.clone() };
    assert_eq!(stage.say(&guest_user).await.status(), 200);
    auth().disable_user(DisableUserRequest { name: guest }).await.unwrap();
    stage.until("the token is refused", async || stage.say(&guest_user).await.status() == 401).await;
    stage.end().await;
}
