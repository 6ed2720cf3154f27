//! `deploy/scenarios/live-coaching`: what the four load levels do, with 150, 300 and 500 calls under way scaled to a tenth, and what
//! one user and one address may ask for.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use toml::Table;
use weir_integration_tests::tenants::Tenant;
use weir_proto::auth::v1::{CreateUserRequest, Role};
use weir_proto::billing::v1::{Limit, OnFailure, Window, window};
use weir_proto::broker::v1::GetStatusRequest;

use crate::live_coaching::{SCENARIO, a_second_of_silence, config};
use crate::scenarios::{Stage, set};

/// As long as a level is held, in the test.
const HOLD: std::time::Duration = std::time::Duration::from_secs(1);

/// The levels' figures by a tenth, and room for all of their calls at the provider: what that has is another test's.
fn scaled(config: &mut Table) {
    set(config, &["quota"], Table::new());
    let load = config["broker"]["load"].as_table_mut().unwrap();
    set(load, &["measure"], "50ms");
    set(load, &["hold"], "1s");
    for level in load["levels"].as_array_mut().unwrap() {
        let level = level.as_table_mut().unwrap();
        for key in ["in_flight", "max_in_flight"] {
            if let Some(figure) = level.get(key).and_then(toml::Value::as_integer) {
                set(level, &[key], figure / 10);
            }
        }
    }
    let true_levels = SCENARIO.read("weir.toml")["broker"]["load"]["levels"].as_array().unwrap().clone();
    let figures =
        true_levels.iter().map(|level| ["in_flight", "cpu_percent"].map(|key| level[key].as_integer().unwrap()));
    assert_eq!(figures.collect::<Vec<_>>(), [[150, 50], [300, 70], [500, 90]]);
    // Who leaves has left.
    set(config, &["broker", "drain"], "100ms");
}

/// In the place of the plan's limit of the same name.
fn rolling(name: &str, scope: &str, unit: &str, amount: i64, seconds: i64) -> Limit {
    let kind = window::Kind::Rolling(prost_types::Duration { seconds, nanos: 0 });
    Limit {
        name: name.to_owned(),
        scope: scope.to_owned(),
        unit: unit.to_owned(),
        amount,
        window: Some(Window { kind: Some(kind) }),
        on_failure: OnFailure::Local.into(),
        alert_percents: Vec::new(),
    }
}

/// Somebody with so much to say that only the address is in his way.
fn talkative() -> Limit {
    rolling("chat-per-minute", "user", "chat_request", 10_000, 60)
}

fn said(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "how was I"}], "max_completion_tokens": 4})
}

impl Stage {
    fn chat(&self, user: &Tenant, model: &str) -> RequestBuilder {
        self.post(user, "/v1/chat/completions").json(&said(model))
    }

    fn transcription(&self, user: &Tenant) -> RequestBuilder {
        let head = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let body = [head.as_bytes(), &a_second_of_silence(), b"\r\n--b--\r\n"].concat();
        let form = "multipart/form-data; boundary=b";
        self.post(user, "/v1/audio/transcriptions").header("content-type", form).body(body)
    }

    /// More calls under way, until they are dropped.
    async fn hold(&self, held: &mut Vec<Response>, calls: usize, user: &Tenant) {
        let mut body = said("coach");
        body["stream"] = true.into();
        body["metadata"] = json!({"simulate": "hang_after=1"});
        while held.len() < calls {
            let more = (held.len()..calls).map(|_| self.post(user, "/v1/chat/completions").json(&body).send());
            let answers = join_all(more).await.into_iter().map(Result::unwrap);
            held.extend(answers.filter(|answer| answer.status() == 200));
        }
    }

    async fn level(&self) -> String {
        let status = self.deployment.siblings.broker().get_status(GetStatusRequest {}).await.unwrap();
        status.into_inner().load_level
    }

    async fn reaches(&self, level: &str) {
        self.until(level, async || self.level().await == level).await;
    }

    /// What model answers a chat, and what is said about the load.
    async fn answers(&self, user: &Tenant) -> [String; 3] {
        let answer = self.chat(user, "coach").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        ["weir-model", "weir-load", "weir-downgraded"]
            .map(|name| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned())
    }
}

/// For the load, with when to try again.
async fn is_refused(request: RequestBuilder, level: &str) {
    let answer = request.send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status == 503 && text.contains(&format!("while the load is `{level}`")), "{status} {text}");
}

async fn is_taken(request: RequestBuilder) {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
}

#[tokio::test]
async fn each_level_does_what_it_says_and_is_left_only_when_it_is_well_below() {
    let stage = Stage::begin(&[], |provider| {
        let mut config: Table = config(provider).parse().unwrap();
        scaled(&mut config);
        toml::to_string(&config).unwrap()
    });
    let stage = stage.await;
    let crowd = stage.user("free", vec![talkative()]).await;
    // The crowd's own limit by address counts only its own calls.
    let user = stage.user("premium", vec![talkative()]).await;
    let mut held = Vec::new();

    assert_eq!(stage.answers(&user).await, ["gpt-4o", "", ""]);
    is_taken(stage.chat(&user, "face")).await;
    is_taken(stage.transcription(&user)).await;

    stage.hold(&mut held, 16, &crowd).await;
    stage.reaches("elevated").await;
    assert_eq!(stage.answers(&user).await, ["gpt-4o-mini", "elevated", "true"]);
    is_taken(stage.chat(&user, "face")).await;
    is_taken(stage.transcription(&user)).await;

    stage.hold(&mut held, 31, &crowd).await;
    stage.reaches("high").await;
    assert_eq!(stage.answers(&user).await, ["gpt-4o-mini", "high", "true"]);
    is_refused(stage.chat(&user, "face"), "high").await;
    is_refused(stage.transcription(&user), "high").await;

    stage.hold(&mut held, 51, &crowd).await;
    stage.reaches("critical").await;
    assert_eq!(stage.answers(&user).await, ["gpt-4o-mini", "critical", "true"]);
    is_refused(stage.chat(&user, "face"), "critical").await;
    is_refused(stage.transcription(&user), "critical").await;
    let speech = json!({"model": "tts-1", "voice": "alloy", "input": "Well done."});
    let picture = json!({"model": "gpt-image-1", "prompt": "A medal"});
    let embedding = json!({"model": "text-embedding-3-small", "input": "a word"});
    for (path, body) in
        [("/v1/audio/speech", speech), ("/v1/images/generations", picture), ("/v1/embeddings", embedding)]
    {
        let answer = stage.post(&user, path).json(&body).send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 403 | 503), "{path}: {answer:?}");
    }
    // Signing in, and what paying is made of.
    let (email, password) = ("premium@example.com", "correct horse battery");
    let member = CreateUserRequest {
        parent: user.organization.clone(),
        email: email.to_owned(),
        display_name: "A user".to_owned(),
        role: Role::Member.into(),
        password: password.to_owned(),
    };
    stage.deployment.siblings.auth().create_user(member).await.unwrap();
    is_taken(stage.request(Method::POST, "/api/v1/tokens").json(&json!({"email": email, "password": password}))).await;
    is_taken(stage.request(Method::GET, "/api/v1/plans").bearer_auth(&user.secret)).await;
    crowd.subscribe(&stage.deployment.siblings, "plans/premium", vec![talkative()]).await.unwrap();

    // A little below the threshold it stays as it is, for however long; well below it is left.
    held.truncate(45);
    tokio::time::sleep(3 * HOLD).await;
    assert_eq!(stage.level().await, "critical");
    held.truncate(38);
    stage.reaches("high").await;
    held.truncate(20);
    stage.reaches("elevated").await;
    held.clear();
    stage.reaches("").await;
    assert_eq!(stage.answers(&user).await, ["gpt-4o", "", ""]);
    is_taken(stage.transcription(&user)).await;
    stage.end().await;
}

#[tokio::test]
async fn one_address_gets_a_hundred_requests_in_a_quarter_of_an_hour() {
    let stage = Stage::begin(&[], |provider| {
        let mut config: Table = config(provider).parse().unwrap();
        config.remove("quota");
        config.insert("facade".to_owned(), "trusted_proxies = [\"127.0.0.0/8\"]".parse::<Table>().unwrap().into());
        toml::to_string(&config).unwrap()
    });
    let stage = stage.await;
    let user = stage.user("free", vec![talkative()]).await;
    let ask = |address: &str| stage.send(stage.chat(&user, "coach").header("x-forwarded-for", address));
    let first = ask("203.0.113.7").await;
    let header = |answer: &Response, name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let requests =
        |answer: &Response| ["limit", "remaining"].map(|what| header(answer, &format!("x-ratelimit-{what}-requests")));
    assert_eq!(requests(&first), ["100", "99"]);
    let answers = join_all((0..102).map(|_| ask("203.0.113.7"))).await;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert_eq!((answered.len(), refused.len()), (99, 3));
    for answer in refused {
        assert_eq!((answer.status().as_u16(), requests(&answer)), (429, ["100", "0"].map(str::to_owned)));
        let wait: u64 = header(&answer, "retry-after").parse().unwrap();
        // What has left a window of more than 64 is free again a sixtieth of it later.
        assert!((1..=915).contains(&wait), "{wait}");
        assert!(header(&answer, "x-ratelimit-reset-requests").contains('s'));
        let told: Value = answer.json().await.unwrap();
        assert!(told["error"]["message"].as_str().unwrap().contains("requests-per-address"), "{told}");
    }
    assert_eq!(ask("203.0.113.8").await.status(), 200, "another address");
    stage.end().await;
}
