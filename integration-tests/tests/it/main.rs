//! A whole Weir, from outside: every test starts its own, with private stores and the simulated provider, and ends with an audit.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

mod agent_tasks;
mod audit;
mod bad_input;
mod brokers;
mod chaos;
mod client;
mod iconoclash;
mod interview_coach;
mod jewelshot;
mod jewelshot_users;
mod kept_answers;
mod key_limits;
mod live_coaching;
mod live_coaching_levels;
mod live_coaching_load;
mod one_trace;
mod own_keys;
mod policies;
mod provider_faults;
mod quota;
mod replay;
mod scenarios;
mod sdks;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};
use weir_integration_tests::books::{self, Books};
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::tenants::{Tenant, UNLIMITED};

/// A running Weir with one tenant, and a client.
struct World {
    deployment: Deployment,
    tenant: Tenant,
    client: reqwest::Client,
}

impl World {
    async fn start(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let deployment = Deployment::start(options).await.unwrap();
        let tenant = Tenant::create(&deployment.siblings, "Tenant", UNLIMITED, Vec::new()).await.unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { deployment, tenant, client }
    }

    async fn in_one_process() -> Self {
        Self::start(Options::new(Mode::One)).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.deployment.facade())
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(&self.tenant.secret)
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(self.url(path)).bearer_auth(&self.tenant.secret)
    }

    async fn chat(&self, body: &Value) -> reqwest::Response {
        self.post("/v1/chat/completions").json(body).send().await.unwrap()
    }

    /// The tenant's books when everything is settled; then nothing must contradict anything.
    async fn books(&self) -> Books {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let audited = self.deployment.audit().await.unwrap();
        assert!(audited.clean, "{}", audited.text);
        let books =
            Books::of(&self.deployment.siblings, std::slice::from_ref(&self.tenant.organization)).await.unwrap();
        assert_eq!(books.quota, books.usage);
        assert_eq!(books.usage, books.billing);
        books
    }
}

/// Five words, five tokens.
fn asking(simulate: &str) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "how high is the water"}],
        "max_completion_tokens": 8,
        "metadata": {"simulate": simulate}
    })
}

fn with(mut body: Value, fields: &Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}
