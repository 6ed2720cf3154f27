//! `deploy/scenarios/live-coaching`: an evening on television, with the limits scaled. A provider of 10,000 requests a minute of which
//! 9,000 are used, 50 at once, becomes one of 20 a second of which 18 are used, 6 at once.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use toml::{Table, Value as Toml};
use weir_integration_tests::books;
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::process::weir_executable;
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;

const PROVIDER: [&str; 6] = ["--limits", "requests:20/concurrent:6", "--rate-window-secs", "1", "--latency-ms", "200"];

fn scenario(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios/live-coaching").join(file)
}

fn set(config: &mut Table, path: &[&str], value: impl Into<Toml>) {
    let (last, tables) = path.split_last().unwrap();
    let table = tables.iter().fold(config, |table, key| table[*key].as_table_mut().unwrap());
    table.insert((*last).to_owned(), value.into());
}

/// The scenario's configuration, for the simulated provider.
fn config(provider: &Provider) -> String {
    let mut config: Table = std::fs::read_to_string(scenario("weir.toml")).unwrap().parse().unwrap();
    set(&mut config, &["billing", "plans"], vec![scenario("plans.toml").display().to_string()]);
    set(&mut config, &["broker", "providers", "openai", "base_url"], format!("http://{}/v1", provider.address()));
    set(&mut config, &["broker", "providers", "openai", "keys", "main"], "sk-simulated");
    for limit in config["quota"]["shared"].as_array_mut().unwrap() {
        let limit = limit.as_table_mut().unwrap();
        if limit["unit"].as_str() == Some("request") {
            assert_eq!(limit["amount"].as_integer(), Some(9000));
            limit.insert("amount".to_owned(), 18.into());
            set(limit, &["window", "rolling"], "1s");
        } else {
            assert_eq!(limit["amount"].as_integer(), Some(50));
            limit.insert("amount".to_owned(), 6.into());
        }
    }
    // A machine that runs tests is busy with others' work.
    for level in config["broker"]["load"]["levels"].as_array_mut().unwrap() {
        level.as_table_mut().unwrap().remove("cpu_percent");
    }
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
        let body = json!({"model": "coach", "messages": [{"role": "user", "content": "how was I"}], "max_completion_tokens": 4});
        self.post("/v1/chat/completions", tenant).json(&body).send().await.unwrap()
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
fn a_second_of_silence() -> Vec<u8> {
    let mut file =
        b"RIFF\x64\x1f\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x40\x1f\0\0".to_vec();
    file.resize(file.len() + 8000, 128);
    file
}

async fn an_evening(mode: Mode) {
    let evening = Evening::begin(mode).await;
    let free = join_all((0..10).map(|_| evening.tenant("free"))).await;
    let premium = join_all((0..4).map(|_| evening.tenant("premium"))).await;

    // Eighty calls of free users; when the first are answered, twenty of premium users.
    let (answered, free_at_the_end) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let free_calls = join_all(free.iter().flat_map(|tenant| std::iter::repeat_n(tenant, 8)).map(async |tenant| {
        let response = evening.chat(tenant).await;
        answered.fetch_add(1, Ordering::Relaxed);
        response.status().as_u16()
    }));
    let premium_calls = async {
        while answered.load(Ordering::Relaxed) < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let calls = premium.iter().flat_map(|tenant| std::iter::repeat_n(tenant, 5));
        let statuses = join_all(calls.map(async |tenant| evening.chat(tenant).await.status().as_u16())).await;
        free_at_the_end.store(answered.load(Ordering::Relaxed), Ordering::Relaxed);
        statuses
    };
    let (free_calls, premium_calls) = tokio::join!(free_calls, premium_calls);
    assert!(free_calls.iter().chain(&premium_calls).all(|status| *status == 200), "{free_calls:?} {premium_calls:?}");
    let overtaken = 80 - free_at_the_end.load(Ordering::Relaxed);
    assert!(overtaken >= 30, "premium calls went before {overtaken} free ones that came before them");

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
