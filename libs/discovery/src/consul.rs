//! Consul, by its HTTP API (<https://developer.hashicorp.com/consul/api-docs>).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use url::Url;
use weir_config::Secret;

use crate::config::ConsulConfig;
use crate::{Directory, Endpoint, Error, Instance, Registration};

/// For everything but blocking queries.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts when Consul does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Consul forgets an instance that has been silent for this long; it accepts nothing shorter.
const FORGET_AFTER: &str = "1m";

/// A Consul agent.
#[derive(Debug, Clone)]
pub struct Consul(Arc<Agent>);

#[derive(Debug)]
struct Agent {
    client: reqwest::Client,
    address: Url,
    token: Secret,
    prefix: String,
    ttl: Duration,
    wait: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: String,
    address: &'a str,
    port: u16,
    check: RegisterCheck,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterCheck {
    #[serde(rename = "TTL")]
    ttl: String,
    status: &'static str,
    deregister_critical_service_after: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: Node,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    /// Empty: the node's.
    address: String,
    port: u16,
}

impl Consul {
    /// The agent at the configured address; nothing is asked yet.
    ///
    /// # Errors
    /// When the address is none, or no HTTP client can be made.
    pub fn new(config: &ConsulConfig) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unavailable { directory: config.address.clone(), reason };
        let mut address: Url = config.address.parse().map_err(|error: url::ParseError| unusable(error.to_string()))?;
        if !address.path().ends_with('/') {
            address.set_path(&format!("{}/", address.path()));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(PATIENCE)
            .build()
            .map_err(|error| unusable(error.without_url().to_string()))?;
        Ok(Self(Arc::new(Agent {
            client,
            address,
            token: config.token.clone(),
            prefix: config.prefix.clone(),
            ttl: config.ttl,
            wait: config.wait,
        })))
    }
}

impl Directory for Consul {
    fn watch(&self, service: &str) -> BoxStream<'static, Vec<Endpoint>> {
        let watch = Watch {
            agent: Arc::clone(&self.0),
            name: format!("{}{service}", self.0.prefix),
            index: 0,
            known: None,
            pause: Duration::ZERO,
        };
        futures::stream::unfold(watch, |mut watch| async move {
            let endpoints = watch.changed().await;
            Some((endpoints, watch))
        })
        .boxed()
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        Box::pin(async move {
            let agent = Arc::clone(&self.0);
            agent.register(&instance).await?;
            // Owned by the registration, which aborts it when it ends.
            let heartbeat = AbortOnDrop(tokio::spawn(Arc::clone(&agent).keep(instance.clone())).abort_handle());
            Ok(Registration::new(async move {
                drop(heartbeat);
                if let Err(error) = agent.deregister(&instance).await {
                    tracing::warn!(service = instance.service, %error, "could not be deregistered, and will run out");
                }
            }))
        })
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        if self.token.is_empty() { request } else { request.header("X-Consul-Token", self.token.expose()) }
    }

    async fn send(&self, request: RequestBuilder, patience: Duration) -> Result<Response, Error> {
        let directory = || format!("Consul at {}", self.address);
        let response = request
            .timeout(patience)
            .send()
            .await
            .map_err(|error| Error::Unavailable { directory: directory(), reason: describe(&error) })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let reason = response.text().await.unwrap_or_default().chars().take(200).collect();
        Err(Error::Refused { directory: directory(), status, reason })
    }

    async fn register(&self, instance: &Instance) -> Result<(), Error> {
        let service = RegisterService {
            id: &instance.id,
            name: format!("{}{}", self.prefix, instance.service),
            address: instance.endpoint.host(),
            port: instance.endpoint.port(),
            check: RegisterCheck {
                ttl: weir_config::duration::format(self.ttl),
                status: "passing",
                deregister_critical_service_after: FORGET_AFTER,
            },
        };
        let request =
            self.request(Method::PUT, &["v1", "agent", "service", "register"], &[("replace-existing-checks", "true")]);
        self.send(request.json(&service), PATIENCE).await.map(drop)
    }

    async fn deregister(&self, instance: &Instance) -> Result<(), Error> {
        let request = self.request(Method::PUT, &["v1", "agent", "service", "deregister", &instance.id], &[]);
        self.send(request, PATIENCE).await.map(drop)
    }

    /// Three heartbeats per lifetime. An agent that has forgotten the instance (it was restarted) is told again.
    async fn keep(self: Arc<Self>, instance: Instance) {
        let check = format!("service:{}", instance.id);
        loop {
            tokio::time::sleep(self.ttl / 3).await;
            let beat = self.request(Method::PUT, &["v1", "agent", "check", "pass", &check], &[]);
            let outcome = match self.send(beat, PATIENCE).await {
                Err(Error::Refused { .. }) => self.register(&instance).await,
                other => other.map(drop),
            };
            if let Err(error) = outcome {
                tracing::warn!(service = instance.service, %error, "a heartbeat was lost");
            }
        }
    }
}

/// One watch: a blocking query after the other.
struct Watch {
    agent: Arc<Agent>,
    name: String,
    /// Consul answers when it has something newer than this.
    index: u64,
    known: Option<Vec<Endpoint>>,
    pause: Duration,
}

impl Watch {
    /// The instances, when they are others than before.
    async fn changed(&mut self) -> Vec<Endpoint> {
        loop {
            tokio::time::sleep(self.pause).await;
            let next = match self.ask().await {
                Ok(endpoints) => {
                    self.pause = Duration::ZERO;
                    endpoints
                }
                Err(error) => {
                    self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    self.index = 0;
                    tracing::warn!(service = self.name, %error, "the instances could not be asked for");
                    // What was known stays: a directory that is away does not move instances.
                    self.known.clone().unwrap_or_default()
                }
            };
            if self.known.as_ref() != Some(&next) {
                self.known = Some(next.clone());
                return next;
            }
        }
    }

    async fn ask(&mut self) -> Result<Vec<Endpoint>, Error> {
        let agent = &self.agent;
        let (index, wait) = (self.index.to_string(), weir_config::duration::format(agent.wait));
        let request = agent.request(
            Method::GET,
            &["v1", "health", "service", &self.name],
            &[("passing", "true"), ("index", &index), ("wait", &wait)],
        );
        // Consul adds up to a sixteenth to the wait, so that not all come back at once.
        let response = agent.send(request, agent.wait + agent.wait / 8 + PATIENCE).await?;
        let index = response.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
        let entries: Vec<HealthEntry> = response.json().await.map_err(|error| Error::Unavailable {
            directory: format!("Consul at {}", agent.address),
            reason: describe(&error),
        })?;
        // An index that goes backwards has to be started over, says Consul.
        self.index = index.filter(|index| *index >= self.index).unwrap_or(0);
        let mut endpoints: Vec<Endpoint> = entries
            .iter()
            .filter_map(|entry| {
                let host = if entry.service.address.is_empty() { &entry.node.address } else { &entry.service.address };
                let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("{bracketed}:{}", entry.service.port).parse().ok()
            })
            .collect();
        endpoints.sort();
        endpoints.dedup();
        Ok(endpoints)
    }
}

/// The error with its causes; reqwest's own text hides them.
fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = if text.is_empty() { error.to_string() } else { format!("{text}: {error}") };
        cause = error.source();
    }
    if text.is_empty() {
        if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() }
    } else {
        text
    }
}
