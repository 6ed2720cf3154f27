//! The configurations in `deploy/scenarios`, changed as a test needs them, and a Weir that runs one.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value as Json;
use toml::{Table, Value};
use weir_integration_tests::books;
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::process::weir_executable;
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;
use weir_proto::billing::v1::Limit;

/// A folder of `deploy/scenarios`.
pub(crate) struct Scenario(pub(crate) &'static str);

impl Scenario {
    /// One of its files, as a list of one for what takes several.
    pub(crate) fn list(&self, file: &str) -> Vec<String> {
        vec![self.path(file).display().to_string()]
    }

    /// Its `weir.toml`, with its plans and prices where they are, and without what a deployment says of its own database.
    pub(crate) fn config(&self) -> Table {
        let mut config = self.read("weir.toml");
        config.remove("database");
        for (key, file) in [("plans", "plans.toml"), ("price_books", "prices.toml")] {
            if config["billing"].get(key).is_some() {
                set(&mut config, &["billing", key], self.list(file));
            }
        }
        config
    }

    pub(crate) fn read(&self, file: &str) -> Table {
        std::fs::read_to_string(self.path(file)).unwrap().parse().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios").join(self.0).join(file)
    }
}

/// Sets a value in tables that are there.
pub(crate) fn set(config: &mut Table, path: &[&str], value: impl Into<Value>) {
    let (last, tables) = path.split_last().unwrap();
    let table = tables.iter().fold(config, |table, key| table[*key].as_table_mut().unwrap());
    table.insert((*last).to_owned(), value.into());
}

/// Waits for the next day (in UTC) where that begins within minutes: what is counted by the day or month is counted in one then.
pub(crate) async fn no_day_ends_soon() {
    let now = chrono::Utc::now();
    let midnight = (now.date_naive() + chrono::Days::new(1)).and_time(chrono::NaiveTime::MIN).and_utc();
    let left = (midnight - now).to_std().unwrap();
    if left < Duration::from_secs(90) {
        tokio::time::sleep(left).await;
    }
}

/// On a slow machine the stores take their time: that nobody waits for them for ever is what other tests are about.
const PATIENCE: [(&str, &str); 4] = [
    ("WEIR_REDIS__DEADLINE", "5s"),
    ("WEIR_DATABASE__ACQUIRE_TIMEOUT", "30s"),
    ("WEIR_DATABASE__STATEMENT_TIMEOUT", "30s"),
    ("WEIR_BROKER__RESERVE_DEADLINE", "20s"),
];

/// A Weir in one process with a scenario's configuration, and a client.
pub(crate) struct Stage {
    pub(crate) deployment: Deployment,
    pub(crate) client: reqwest::Client,
}

impl Stage {
    /// With a simulated provider, started with `args`, in the place of the true ones.
    pub(crate) async fn begin(args: &[&str], config: impl FnOnce(&Provider) -> String) -> Self {
        Self::begin_with(args, Vec::new(), config).await
    }

    /// With `env` in its environment.
    pub(crate) async fn begin_with(
        args: &[&str],
        env: Vec<(String, String)>,
        config: impl FnOnce(&Provider) -> String,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start(&weir_executable().unwrap(), folder.path(), args).await.unwrap();
        let more_config = config(&provider);
        let patience = PATIENCE.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = patience.into_iter().chain(env).collect();
        let options = Options { provider: Some(Rc::new(provider)), more_config, env, ..Options::new(Mode::One) };
        let deployment = Deployment::start(options).await.unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(170)).build().unwrap();
        Self { deployment, client }
    }

    /// Somebody on a plan.
    pub(crate) async fn user(&self, plan: &str, limits: Vec<Limit>) -> Tenant {
        Tenant::create(&self.deployment.siblings, plan, &format!("plans/{plan}"), limits).await.unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.deployment.facade()))
    }

    pub(crate) fn post(&self, user: &Tenant, path: &str) -> RequestBuilder {
        self.request(Method::POST, path).bearer_auth(&user.secret)
    }

    /// Sends as clients do: again after a 503, which changed nothing, each after a pause of its own that grows.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Response {
        for tries in 1..=12 {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            if answer.status() != 503 {
                return answer;
            }
            let own = uuid::Uuid::new_v4().as_bytes()[0];
            tokio::time::sleep(Duration::from_millis(200 + 8 * u64::from(own)) * tries).await;
        }
        panic!("never available");
    }

    /// A call of Weir's own API that is taken.
    pub(crate) async fn api(&self, user: &Tenant, method: Method, path: &str, body: &Json) -> Json {
        let answer = self.send(self.request(method, path).bearer_auth(&user.secret).json(body)).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A job that is done.
    pub(crate) async fn job(&self, user: &Tenant, job: &Json) -> Json {
        let id = self.api(user, Method::POST, "/api/v1/jobs", job).await["id"].as_str().unwrap().to_owned();
        for _ in 0..1_200 {
            let job = self.api(user, Method::GET, &format!("/api/v1/jobs/{id}"), &Json::Null).await;
            match job["state"].as_str().unwrap() {
                "queued" | "processing" => tokio::time::sleep(Duration::from_millis(50)).await,
                "complete" => return job,
                _ => panic!("{job}"),
            }
        }
        panic!("{id} is never done");
    }

    /// Waits for what comes by itself.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        for _ in 0..1_200 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}");
    }

    /// The usage records of a user whose calls have ended.
    pub(crate) async fn records(&self, user: &Tenant) -> Vec<Json> {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let page = self.api(user, Method::GET, "/api/v1/usage/events?page_size=1000", &Json::Null).await;
        page["events"].as_array().unwrap().clone()
    }

    /// Nothing contradicts anything.
    pub(crate) async fn end(self) {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let audited = self.deployment.audit().await.unwrap();
        assert!(audited.clean, "{}", audited.text);
    }
}
