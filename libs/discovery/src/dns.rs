//! Names that are looked up again and again; every address in the answer is an instance.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::{Directory, Endpoint, Error, Instance, Registration};

/// No answer of the resolver is waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names and ports; what they resolve to is where the instances are.
#[derive(Debug, Clone)]
pub struct Dns {
    services: HashMap<String, Vec<Endpoint>>,
    interval: Duration,
}

impl Dns {
    /// Looks the names of these services up every `interval`.
    #[must_use]
    pub fn new(services: HashMap<String, Vec<Endpoint>>, interval: Duration) -> Self {
        Self { services, interval }
    }
}

/// One watch.
struct Watch {
    service: String,
    names: Vec<Endpoint>,
    interval: Duration,
    /// What was said last.
    known: Option<Vec<Endpoint>>,
}

impl Directory for Dns {
    fn watch(&self, service: &str) -> BoxStream<'static, Vec<Endpoint>> {
        let names = self.services.get(service).cloned().unwrap_or_default();
        let watch = Watch { service: service.to_owned(), names, interval: self.interval, known: None };
        futures::stream::unfold(watch, |mut watch| async move {
            let endpoints = watch.changed().await;
            Some((endpoints, watch))
        })
        .boxed()
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        // Whoever runs the name server knows the instances.
        Box::pin(async { Ok(Registration::none()) })
    }
}

impl Watch {
    /// The instances, when they are others than before.
    async fn changed(&mut self) -> Vec<Endpoint> {
        loop {
            if self.known.is_some() {
                tokio::time::sleep(self.interval).await;
            }
            let next = match self.look_up().await {
                Ok(endpoints) => endpoints,
                Err(reason) => {
                    tracing::warn!(service = self.service, reason, "the names could not be looked up");
                    // What was known stays: a name server that is away for a moment does not move instances.
                    self.known.clone().unwrap_or_default()
                }
            };
            if self.known.as_ref() != Some(&next) {
                self.known = Some(next.clone());
                return next;
            }
        }
    }

    async fn look_up(&self) -> Result<Vec<Endpoint>, String> {
        let mut endpoints = Vec::new();
        for name in &self.names {
            let answer = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name.as_str())).await;
            match answer {
                Ok(Ok(addresses)) => endpoints.extend(addresses.map(Endpoint::from)),
                Ok(Err(error)) => return Err(format!("{name}: {error}")),
                Err(_) => return Err(format!("{name}: no answer within {PATIENCE:?}")),
            }
        }
        // Name servers shuffle their answers.
        endpoints.sort();
        endpoints.dedup();
        Ok(endpoints)
    }
}
