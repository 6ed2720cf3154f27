//! The simulated provider, asked over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

mod admin;
mod anthropic;
mod chat;
mod elevenlabs;
mod embeddings;
mod fal;
mod faults;
mod limits;
mod load;
mod media;
mod refusals;
mod responses;

use std::time::Duration;

use serde_json::{Value, json};
use weir_simulator::{Options, Simulator};

/// A simulator and a client that knows its address.
struct Provider {
    simulator: Simulator,
    client: reqwest::Client,
}

impl Provider {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { simulator: Simulator::start(options).await.unwrap(), client }
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}{path}", self.simulator.addr())).bearer_auth("sk-test-0001")
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}{path}", self.simulator.addr())).bearer_auth("sk-test-0001")
    }

    async fn chat(&self, body: &Value) -> reqwest::Response {
        self.post("/v1/chat/completions").header("x-client-request-id", "request-1").json(body).send().await.unwrap()
    }

    /// Asks for a stream; the data of its events, without `[DONE]` if it came.
    async fn events(&self, body: &Value) -> (Vec<Value>, bool) {
        let text = self.chat(body).await.text().await.unwrap();
        events_of(&text)
    }
}

fn events_of(text: &str) -> (Vec<Value>, bool) {
    let mut data: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let done = data.last() == Some(&"[DONE]");
    if done {
        data.pop();
    }
    (data.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect(), done)
}

/// A chat request of five words with this directive.
fn asking(simulate: &str) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "how high is the water"}],
        "metadata": {"simulate": simulate}
    })
}

fn with(mut body: Value, fields: &Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Waits until nothing is under way: a client sees the end of an answer before the server's task is dropped.
async fn settled(simulator: &Simulator) -> weir_simulator::Stats {
    for _ in 0..12_000 {
        let stats = simulator.stats();
        if stats.in_flight == 0 {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    simulator.stats()
}
