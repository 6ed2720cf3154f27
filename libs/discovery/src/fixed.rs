//! Addresses that stay as they are.

use std::collections::HashMap;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::{Directory, Endpoint, Error, Instance, Registration};

/// Addresses from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Static(HashMap<String, Vec<Endpoint>>);

impl Static {
    /// These services at these addresses.
    #[must_use]
    pub fn new(services: HashMap<String, Vec<Endpoint>>) -> Self {
        Self(services)
    }

    /// Adds a service.
    #[must_use]
    pub fn with(mut self, service: &str, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.0.insert(service.to_owned(), endpoints.into_iter().collect());
        self
    }
}

impl Directory for Static {
    fn watch(&self, service: &str) -> BoxStream<'static, Vec<Endpoint>> {
        let endpoints = self.0.get(service).cloned().unwrap_or_default();
        futures::stream::once(async move { endpoints }).boxed()
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        Box::pin(async { Ok(Registration::none()) })
    }
}
