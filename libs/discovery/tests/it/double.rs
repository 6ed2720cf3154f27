//! As much of a Consul agent as is used here, by its documentation: services with a TTL check, blocking queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) struct Double {
    pub(crate) address: String,
    agent: Arc<Agent>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Agent {
    services: Mutex<BTreeMap<String, Registered>>,
    changes: Mutex<u64>,
    failing: AtomicBool,
    token: Option<String>,
}

#[derive(Clone)]
struct Registered {
    body: Value,
    ttl: Duration,
    alive_until: Instant,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Double {
    pub(crate) async fn start(token: Option<&str>) -> Self {
        let agent = Arc::new(Agent { token: token.map(str::to_owned), changes: Mutex::new(1), ..Agent::default() });
        let router = Router::new()
            .route("/v1/agent/service/register", put(register))
            .route("/v1/agent/service/deregister/{id}", put(deregister))
            .route("/v1/agent/check/pass/{check}", put(pass))
            .route("/v1/health/service/{name}", get(health))
            .with_state(Arc::clone(&agent));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, agent, server }
    }

    /// It answers with errors, or no longer.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.agent.failing.store(failing, Ordering::Relaxed);
    }

    /// As after a restart without its data.
    pub(crate) fn forget(&self) {
        self.agent.services.lock().clear();
        *self.agent.changes.lock() += 1;
    }
}

impl Agent {
    fn refuses(&self, headers: &HeaderMap) -> Option<Response> {
        let given = headers.get("x-consul-token").and_then(|token| token.to_str().ok());
        if self.failing.load(Ordering::Relaxed) {
            return Some((StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").into_response());
        }
        (self.token.as_deref() != given).then(|| (StatusCode::FORBIDDEN, "Permission denied").into_response())
    }

    fn changed(&self) {
        *self.changes.lock() += 1;
    }

    fn passing(&self, name: &str) -> Vec<Value> {
        let services = self.services.lock();
        let here = |entry: &&Registered| entry.body["Name"] == name && entry.alive_until > Instant::now();
        let entry = |entry: &Registered| json!({"Node": {"Address": "127.0.0.1"}, "Service": {"Address": entry.body["Address"], "Port": entry.body["Port"]}});
        services.values().filter(here).map(entry).collect()
    }
}

async fn register(State(agent): State<Arc<Agent>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if let Some(refusal) = agent.refuses(&headers) {
        return refusal;
    }
    let ttl = body["Check"]["TTL"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse().ok());
    let (Some(ttl), Some(id)) = (ttl.map(Duration::from_secs), body["ID"].as_str()) else {
        return (StatusCode::BAD_REQUEST, "Invalid check").into_response();
    };
    let entry = Registered { ttl, alive_until: Instant::now() + ttl, body: body.clone() };
    agent.services.lock().insert(id.to_owned(), entry);
    agent.changed();
    StatusCode::OK.into_response()
}

async fn deregister(State(agent): State<Arc<Agent>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Some(refusal) = agent.refuses(&headers) {
        return refusal;
    }
    agent.services.lock().remove(&id);
    agent.changed();
    StatusCode::OK.into_response()
}

async fn pass(State(agent): State<Arc<Agent>>, headers: HeaderMap, Path(check): Path<String>) -> Response {
    if let Some(refusal) = agent.refuses(&headers) {
        return refusal;
    }
    let mut services = agent.services.lock();
    match services.get_mut(check.trim_start_matches("service:")) {
        Some(entry) => {
            entry.alive_until = Instant::now() + entry.ttl;
            StatusCode::OK.into_response()
        }
        None => (StatusCode::NOT_FOUND, "CheckID does not have associated TTL").into_response(),
    }
}

async fn health(
    State(agent): State<Arc<Agent>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Some(refusal) = agent.refuses(&headers) {
        return refusal;
    }
    let seen: u64 = query["index"].parse().unwrap();
    let wait = query["wait"].strip_suffix('s').unwrap().parse().map(Duration::from_secs).unwrap();
    let (asked, before) = (Instant::now(), agent.passing(&name));
    loop {
        let (index, now) = (*agent.changes.lock(), agent.passing(&name));
        if now != before {
            agent.changed();
        }
        if index > seen || now != before || asked.elapsed() > wait {
            let index = *agent.changes.lock();
            return ([("X-Consul-Index", index.to_string())], Json(now)).into_response();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
