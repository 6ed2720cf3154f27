//! `deploy/scenarios/interview-coach`: own keys and the platform's, sessions, recordings, analyses and speech, with the true providers
//! and the bucket replaced, and what everybody shares scaled from 3,500 a minute to 20 in three seconds.

use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use toml::Table;
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;
use weir_proto::billing::v1::{Lifetime, Limit, OnFailure, Window, window};

use crate::brokers::{most_within, started_anew};
use crate::scenarios::{Scenario, Stage, no_day_ends_soon, set};

const WINDOW_MS: u64 = 3_000;
const PLATFORM: [&str; 2] = ["sk-platform-openai", "sk-platform-elevenlabs"];

const SCENARIO: Scenario = Scenario("interview-coach");

/// The scenario's configuration, for the simulated providers and a folder.
fn config(provider: &Provider, folder: &Path) -> String {
    let mut config = SCENARIO.config();
    for (name, key) in ["openai", "elevenlabs"].into_iter().zip(PLATFORM) {
        set(&mut config, &["broker", "providers", name, "base_url"], format!("http://{}/v1", provider.address()));
        set(&mut config, &["broker", "providers", name, "keys", "main"], key);
    }
    let limits = config["quota"]["shared"].as_array_mut().unwrap();
    let amounts: Vec<_> = limits.iter().map(|limit| limit["amount"].as_integer().unwrap()).collect();
    assert_eq!(amounts, [3_500, 600]);
    set(limits[0].as_table_mut().unwrap(), &["amount"], 20);
    set(limits[0].as_table_mut().unwrap(), &["window", "rolling"], format!("{WINDOW_MS}ms"));
    // On a slow machine a look-up may take its time.
    set(&mut config, &["broker", "cache"], "deadline = \"1s\"".parse::<Table>().unwrap());
    set(&mut config, &["broker", "results", "bucket", "name"], "");
    set(&mut config, &["broker", "results", "folder"], folder.display().to_string());
    toml::to_string(&config).unwrap()
}

/// A recording of so many seconds: a WAV file of 100 samples of a byte in each.
fn recording(seconds: usize) -> Vec<u8> {
    let bytes = u32::try_from(100 * seconds).unwrap();
    let mut file = b"RIFF".to_vec();
    file.extend((bytes + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x64\0\0\0\x64\0\0\0\x01\0\x08\0data");
    file.extend(bytes.to_le_bytes());
    file.resize(file.len() + 100 * seconds, 128);
    file
}

struct Coach {
    stage: Stage,
    folder: TempDir,
}

impl Deref for Coach {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl Coach {
    async fn begin() -> Self {
        no_day_ends_soon().await;
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::begin(&[], |provider| config(provider, &folder.path().join("speech"))).await;
        Self { stage, folder }
    }

    /// Somebody on the free plan who has brought keys of both providers.
    async fn free_user(&self) -> Tenant {
        let user = self.user("free", Vec::new()).await;
        for provider in ["openai", "elevenlabs"] {
            let key =
                json!({"provider": provider, "secret": format!("sk-mine-0123456789-{provider}"), "label": "mine"});
            let stored = self.api(&user, Method::POST, "/api/v1/provider-keys", &key).await;
            assert_eq!(stored["last_four"], provider[provider.len() - 4..], "{stored}");
        }
        user
    }

    async fn chat(&self, user: &Tenant, model: &str) -> Response {
        self.send(self.post(user, "/v1/chat/completions").json(&said(model, "how was I"))).await
    }

    /// Opens a session.
    async fn open(&self, user: &Tenant, session: &str) -> Response {
        let request = self.post(user, "/v1/chat/completions").json(&said("coach", "I am ready"));
        self.send(request.header("weir-feature", "interview").header("idempotency-key", session)).await
    }

    async fn transcribe(&self, user: &Tenant, seconds: usize) -> Response {
        let head = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let body = [head.as_bytes(), &recording(seconds), b"\r\n--b--\r\n"].concat();
        let request =
            self.post(user, "/v1/audio/transcriptions").header("content-type", "multipart/form-data; boundary=b");
        self.send(request.body(body)).await
    }

    /// The same job once more, when the answer of its first step is kept: that takes a moment, and a slow store has none.
    async fn job_again(&self, user: &Tenant, job: &Value) -> Value {
        for _ in 0..50 {
            let done = self.job(user, job).await;
            if done["steps"][0]["result"]["cached"] == true {
                return done;
            }
        }
        panic!("never kept: {job}");
    }

    async fn turn_on(&self, user: &Tenant) {
        for path in ["/api/v1/cache", "/api/v1/result-settings"] {
            self.api(user, Method::PUT, path, &json!({"enabled": true})).await;
        }
    }
}

fn said(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_completion_tokens": 4})
}

/// Refused with this status by this limit, or for this reason.
async fn is_refused(answer: Response, status: u16, by: &str) {
    let found = answer.status();
    let waits = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse::<u64>().unwrap());
    let text = answer.text().await.unwrap();
    assert!(found == status && text.contains(by), "not {status} by {by}: {found} {text}");
    assert!(status != 429 || waits > Some(0), "when to retry: {waits:?}");
}

#[tokio::test]
async fn the_free_plan_goes_by_the_users_own_keys_within_its_figures() {
    let coach = Coach::begin().await;
    // Nothing without a credential, and nothing of what is inside.
    let inside = coach.deployment.provider.address().to_string();
    for path in [
        "/v1/chat/completions",
        "/v1/audio/transcriptions",
        "/v1/audio/speech",
        "/api/v1/jobs",
        "/api/v1/provider-keys",
    ] {
        let answer = coach.request(Method::POST, path).json(&said("coach", "hello")).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let text = format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap());
        assert!(PLATFORM.iter().chain([&&*inside]).all(|secret| !text.contains(*secret)), "{path}: {text}");
    }
    // Without a key of one's own there is nothing to go by.
    is_refused(coach.chat(&coach.user("free", Vec::new()).await, "coach").await, 403, "own_key_required").await;

    // Five sessions, each opened twice at once and once more: one call and one unit each.
    let user = coach.free_user().await;
    for session in 1..=5 {
        let session = format!("session-{session}");
        let (one, other) = tokio::join!(coach.open(&user, &session), coach.open(&user, &session));
        let again = coach.open(&user, &session).await;
        assert_eq!([one.status(), other.status(), again.status()].map(|status| status.as_u16()), [200; 3]);
    }
    is_refused(coach.open(&user, "session-6").await, 429, "interviews").await;
    assert_eq!(coach.open(&user, "session-5").await.status(), 200, "it has been opened");
    assert_eq!(coach.chat(&user, "coach").await.status(), 200, "a session goes on");
    let records = coach.records(&user).await;
    assert_eq!(records.len(), 6, "{records:?}");
    for record in &records {
        assert_eq!((&record["cost_nano_usd"], &record["model"]), (&json!(0), &json!("gpt-4o-mini")), "{record}");
        assert!(
            record["own_cost_nano_usd"].as_i64() > Some(0) && record["input_tokens"].as_i64() > Some(0),
            "{record}"
        );
        let told = [&record["user_id"], &record["provider_key_id"], &record["provider"], &record["time"]];
        assert!(told.iter().all(|told| told.is_string()), "{record}");
    }
    let stats = coach.deployment.provider.stats().await.unwrap();
    assert_eq!(stats.keys.keys().collect::<Vec<_>>(), ["…enai"], "no call went by the platform's key");

    // Ten minutes of recordings, by their own length.
    let user = coach.free_user().await;
    assert_eq!(coach.transcribe(&user, 598).await.status(), 200);
    is_refused(coach.transcribe(&user, 3).await, 429, "transcription").await;
    assert_eq!(coach.transcribe(&user, 2).await.status(), 200, "to the second");
    is_refused(coach.chat(&user, "analysis-advanced").await, 403, "analysis-advanced").await;
    assert_eq!(coach.chat(&user, "analysis-basic").await.status(), 200);

    // Ten requests a minute.
    let user = coach.free_user().await;
    let mut answers = join_all((0..11).map(|_| coach.chat(&user, "coach"))).await;
    answers.sort_by_key(Response::status);
    let refused = answers.pop().unwrap();
    assert!(answers.iter().all(|answer| answer.status() == 200), "{answers:?}");
    is_refused(refused, 429, "requests-per-minute").await;
    coach.stage.end().await;
}

#[tokio::test]
async fn the_paid_plans_go_by_the_platforms_keys_up_to_the_ceiling() {
    let coach = Coach::begin().await;
    let user = coach.user("pro", Vec::new()).await;
    coach.turn_on(&user).await;

    // An analysis a second later, and the same one within the hour.
    let body = said("analysis-advanced", "the transcript of session 7");
    let analysis =
        json!({"delay_seconds": 1, "steps": [{"key": "analysis", "operation": "chat.completions", "body": body}]});
    let asked = chrono::Utc::now();
    let first = coach.job(&user, &analysis).await;
    let time = |name: &str| first[name].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert!(time("start_time") - asked >= chrono::TimeDelta::seconds(1), "asked at {asked}: {first}");
    let again = coach.job_again(&user, &analysis).await;
    let results = [&first, &again].map(|job| &job["steps"][0]["result"]);
    assert_eq!(results.map(|result| result["cached"].as_bool()), [Some(false), Some(true)]);
    assert_eq!(results[1]["body"]["cached"], true);
    assert!(results[0]["cost_nano_usd"].as_i64() > Some(0) && results[1]["cost_nano_usd"] == 0, "{results:?}");

    // Speech as an address.
    let speech = json!({"steps": [
        {"key": "speak", "operation": "audio.speech", "body": {"model": "voice", "voice": "21m00Tcm4TlvDq8ikWAM", "input": "Tell me."}},
        {"key": "store", "store": {"from": "speak"}},
    ]});
    let (first, again) = (coach.job(&user, &speech).await, coach.job_again(&user, &speech).await);
    let steps = [&first, &again].map(|job| &job["steps"]);
    assert_eq!(steps.map(|steps| steps[0]["result"]["cached"].as_bool()), [Some(false), Some(true)]);
    assert_eq!(steps.map(|steps| steps[0]["result"]["cost_nano_usd"].as_i64()), [Some(8 * 50_000), Some(0)]);
    for job in [&first, &again] {
        let url = job["steps"][1]["result"]["body"]["data"][0]["url"].as_str().unwrap();
        let path = url.strip_prefix("https://api.example.com").unwrap();
        let sound = coach.request(Method::GET, path).send().await.unwrap();
        assert_eq!(sound.status(), 200);
        assert_eq!(sound.headers()["content-type"], "audio/mpeg");
        assert!(!sound.bytes().await.unwrap().is_empty());
    }
    assert!(coach.folder.path().join("speech").is_dir());

    // What the plans have.
    is_refused(coach.chat(&user, "analysis-custom").await, 403, "analysis-custom").await;
    let enterprise = coach.user("enterprise", Vec::new()).await;
    assert_eq!(coach.chat(&enterprise, "analysis-custom").await.status(), 200);
    assert_eq!(coach.transcribe(&user, 11_999).await.status(), 200);
    is_refused(coach.transcribe(&user, 2).await, 429, "transcription").await;
    assert_eq!(coach.transcribe(&enterprise, 12_001).await.status(), 200);
    let balance = coach.api(&user, Method::GET, "/api/v1/balance", &Value::Null).await;
    let limit = |name: &str| {
        let limits = balance["limits"].as_array().unwrap();
        limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("{name}: {balance}")).clone()
    };
    assert_eq!(limit("cost-ceiling")["limit"], 20_000_000_000_i64);
    let plans = coach.api(&user, Method::GET, "/api/v1/plans", &Value::Null).await;
    let price = |plan: &str| {
        let of = plans["plans"].as_array().unwrap().iter().find(|one| one["id"] == plan).unwrap();
        of["price_usd"].as_str().unwrap().to_owned()
    };
    assert_eq!((price("free"), price("pro")), ("0".to_owned(), "29".to_owned()));

    // A ceiling that is reached; an own key goes on.
    let ceiling = Limit {
        name: "cost-ceiling".to_owned(),
        scope: "organization".to_owned(),
        unit: "nano_usd".to_owned(),
        amount: 1,
        window: Some(Window { kind: Some(window::Kind::Lifetime(Lifetime {})) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    };
    let poor = coach.user("pro", vec![ceiling]).await;
    is_refused(coach.chat(&poor, "coach").await, 402, "cost-ceiling").await;
    let key = json!({"provider": "openai", "secret": "sk-mine-0123456789-poor", "limits": {"requests_per_minute": 1}});
    coach.api(&poor, Method::POST, "/api/v1/provider-keys", &key).await;
    assert_eq!(coach.chat(&poor, "coach").await.status(), 200);
    is_refused(coach.chat(&poor, "coach").await, 429, "own-key-requests-per-minute").await;
    coach.stage.end().await;
}

#[tokio::test]
async fn everybody_shares_openais_quota_and_one_user_can_not_eat_it_all() {
    let coach = Coach::begin().await;
    let users = join_all((0..5).map(|_| coach.user("pro", Vec::new()))).await;
    let zero = started_anew(&coach.deployment.provider).await;
    // One asks for more than all may have together; the others for their share.
    let greedy = join_all((0..40).map(|_| coach.chat(&users[0], "coach")));
    let others = join_all(users[1..].iter().flat_map(|user| (0..10).map(|_| coach.chat(user, "coach"))));
    let began = Instant::now();
    let (greedy, others) = tokio::join!(greedy, others);
    let got = greedy.iter().filter(|answer| answer.status() == 200).count();
    let statuses: Vec<_> = greedy.iter().map(Response::status).collect();
    assert!(got == 10 || got > 10 && began.elapsed() > Duration::from_secs(60), "{got} in a minute: {statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status.as_u16(), 200 | 429)), "{statuses:?}");
    assert!(others.iter().all(|answer| answer.status() == 200), "who finds no room waits");
    let served = coach.deployment.provider.served().await.unwrap();
    assert_eq!(served.len(), 40 + got);
    let seen = most_within(&served, zero, WINDOW_MS, |_| 1);
    assert!(seen <= 20, "{seen} at once");
    coach.stage.end().await;
}
