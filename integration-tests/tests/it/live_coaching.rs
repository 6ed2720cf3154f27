//! `deploy/scenarios/live-coaching`: an evening on television, with the limits scaled. A provider of 10,000 requests a minute of which
//! 9,000 are used, 50 at once, becomes one of 24 in two seconds of which 18 are used, 6 at once. What is kept back is what can be on its
//! way: calls that were let go before a span and come within it are at most those that are under way at its beginning.

use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use toml::Table;
use weir_integration_tests::books;
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::process::weir_executable;
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;

use crate::scenarios::{Scenario, set};

const PROVIDER: [&str; 6] = ["--limits", "requests:24/concurrent:6", "--rate-window-secs", "2", "--latency-ms", "200"];

/// The most calls that had the turn when the premium ones came: `turns` of `[broker.queue]`.
const TURNS: usize = 16;

pub(crate) const SCENARIO: Scenario = Scenario("live-coaching");

/// The scenario's configuration, for the simulated provider.
pub(crate) fn config(provider: &Provider) -> String {
    let mut config = SCENARIO.config();
    set(&mut config, &["broker", "providers", "openai", "base_url"], format!("http://{}/v1", provider.address()));
    set(&mut config, &["broker", "providers", "openai", "keys", "main"], "sk-simulated");
    for limit in config["quota"]["shared"].as_array_mut().unwrap() {
        let limit = limit.as_table_mut().unwrap();
        if limit["unit"].as_str() == Some("request") {
            assert_eq!(limit["amount"].as_integer(), Some(9000));
            limit.insert("amount".to_owned(), 18.into());
            set(limit, &["window", "rolling"], "2s");
        } else {
            assert_eq!(limit["amount"].as_integer(), Some(50));
            limit.insert("amount".to_owned(), 6.into());
        }
    }
    // A machine that runs tests is busy with others' work: that is no load of Weir's.
    for level in config["broker"]["load"]["levels"].as_array_mut().unwrap() {
        level.as_table_mut().unwrap().remove("cpu_percent");
    }
    // Nor does one lose its turn for being slow.
    set(&mut config, &["broker", "queue"], "turn = \"60s\"".parse::<Table>().unwrap());
    toml::to_string(&config).unwrap()
}

struct Evening {
    deployment: Deployment,
    client: reqwest::Client,
}

impl Evening {
    async fn begin(mode: Mode) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let provider = Provider::start(&weir_executable().unwrap(), dir.path(), &PROVIDER).await.unwrap();
        let more_config = config(&provider);
        let options = Options { provider: Some(Rc::new(provider)), more_config, ..Options::new(mode) };
        let deployment = Deployment::start(options).await.unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(90)).build().unwrap();
        Self { deployment, client }
    }

    async fn tenant(&self, plan: &str) -> Tenant {
        Tenant::create(&self.deployment.siblings, plan, &format!("plans/{plan}"), Vec::new()).await.unwrap()
    }

    fn post(&self, path: &str, tenant: &Tenant) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}{path}", self.deployment.facade())).bearer_auth(&tenant.secret)
    }

    async fn chat(&self, tenant: &Tenant) -> reqwest::Response {
        self.chat_as(tenant, false).await
    }

    async fn chat_as(&self, tenant: &Tenant, stream: bool) -> reqwest::Response {
        let messages = [json!({"role": "user", "content": "how was I"})];
        let body = json!({"model": "coach", "messages": messages, "max_completion_tokens": 4, "stream": stream});
        loop {
            let answer = self.post("/v1/chat/completions", tenant).json(&body).send().await.unwrap();
            // As clients do: a 503 has changed nothing.
            if answer.status() != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn transcribe(&self, tenant: &Tenant) -> reqwest::Response {
        const FORM: &str = "multipart/form-data; boundary=b";
        let head = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let body = [head.as_bytes(), &a_second_of_silence(), b"\r\n--b--\r\n"].concat();
        self.post("/v1/audio/transcriptions", tenant).header("content-type", FORM).body(body).send().await.unwrap()
    }
}

/// A WAV file: 8,000 samples of a byte.
pub(crate) fn a_second_of_silence() -> Vec<u8> {
    let mut file =
        b"RIFF\x64\x1f\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x40\x1f\0\0".to_vec();
    file.resize(file.len() + 8000, 128);
    file
}

/// The text of a stream that has begun.
async fn whole(answer: reqwest::Response) -> String {
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

async fn an_evening(mode: Mode) {
    let evening = Evening::begin(mode).await;
    let free = join_all((0..10).map(|_| evening.tenant("free"))).await;
    let premium = join_all((0..4).map(|_| evening.tenant("premium"))).await;

    // Eighty calls of free users; when the provider is full, twenty of premium users, as streams: those begin when they stand in line.
    let free_calls =
        join_all(free.iter().flat_map(|tenant| std::iter::repeat_n(tenant, 8)).map(|tenant| evening.chat(tenant)));
    let premium_calls = async {
        while evening.deployment.provider.stats().await.unwrap().requests < 18 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let calls = premium.iter().flat_map(|tenant| std::iter::repeat_n(tenant, 5));
        let begun = join_all(calls.map(|tenant| evening.chat_as(tenant, true))).await;
        let in_line = evening.deployment.provider.stats().await.unwrap().requests;
        (join_all(begun.into_iter().map(whole)).await, in_line)
    };
    let (free_calls, (premium_calls, in_line)) = tokio::join!(free_calls, premium_calls);
    assert!(free_calls.iter().all(|answer| answer.status() == 200), "{free_calls:?}");
    assert!(premium_calls.iter().all(|answer| answer.ends_with("data: [DONE]\n\n")), "{premium_calls:?}");
    let served = evening.deployment.provider.served().await.unwrap();
    let since = served.iter().filter(|served| served.sequence > in_line);
    let kinds: Vec<_> = since.map(|served| if served.streamed { "premium" } else { "free" }).collect();
    let premium_end = kinds.iter().rposition(|kind| *kind == "premium").unwrap_or(0);
    let went_before = kinds[..premium_end].iter().filter(|kind| **kind == "free").count();
    assert!(went_before <= TURNS, "{went_before} free calls went before premium ones: {kinds:?}");

    let stats = evening.deployment.provider.stats().await.unwrap();
    assert_eq!(stats.statuses.get(&429), None, "the provider never had to refuse: {stats:?}");
    assert_eq!(stats.charged_requests, 100);

    // Ten chats a minute, five transcriptions: each by itself.
    let user = evening.tenant("free").await;
    for n in 1..=5 {
        let answer = evening.transcribe(&user).await;
        assert_eq!(answer.status(), 200, "transcription {n}: {}", answer.text().await.unwrap());
    }
    let refused = evening.transcribe(&user).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let told: Value = refused.json().await.unwrap();
    assert!(told["error"]["message"].as_str().unwrap().contains("transcription requests"), "{told}");
    for n in 1..=10 {
        assert_eq!(evening.chat(&user).await.status(), 200, "chat {n}");
    }
    assert_eq!(evening.chat(&user).await.status(), 429);

    books::settle(&evening.deployment.siblings, Duration::from_secs(60)).await.unwrap();
    let audited = evening.deployment.audit().await.unwrap();
    assert!(audited.clean, "{}", audited.text);
}

#[tokio::test]
async fn everybody_is_served_premium_first_and_the_provider_never_refuses() {
    an_evening(Mode::One).await;
}
