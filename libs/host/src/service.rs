//! A service as its crate hands it over.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use weir_rpc::{Access, Routes};

/// What a service's `start` returns: its routes, who may call them, and what its life depends on.
pub struct Service {
    pub(crate) name: &'static str,
    pub(crate) routes: Routes,
    pub(crate) access: &'static [(&'static str, Access)],
    pub(crate) essential: &'static [&'static str],
    pub(crate) http: Option<axum::Router>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) drain: Option<BoxFuture<'static, ()>>,
}

impl Service {
    /// A service that offers nothing yet. Names: `auth`, `quota`, `ai-broker`, `usage`, `billing`, `facade`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            routes: Routes::default(),
            access: &[],
            essential: &[],
            http: None,
            probes: Vec::new(),
            drain: None,
        }
    }

    /// Its gRPC routes, and one row per method that says who may call it.
    #[must_use]
    pub fn grpc(mut self, routes: Routes, access: &'static [(&'static str, Access)]) -> Self {
        self.routes = routes;
        self.access = access;
        self
    }

    /// Methods (paths) that are still taken when the service is full: those that end work, not those that begin it.
    #[must_use]
    pub fn essential(mut self, methods: &'static [&'static str]) -> Self {
        self.essential = methods;
        self
    }

    /// Its public HTTP API.
    #[must_use]
    pub fn http(mut self, router: axum::Router) -> Self {
        self.http = Some(router);
        self
    }

    /// Something that readiness depends on.
    #[must_use]
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probes.push(probe);
        self
    }

    /// What is left to do when no call comes any more: runs after the listeners have drained and [`Context::shutdown`]
    /// has been cancelled, within the drain's bound.
    ///
    /// [`Context::shutdown`]: crate::Context::shutdown
    #[must_use]
    pub fn drain(mut self, drain: impl Future<Output = ()> + Send + 'static) -> Self {
        self.drain = Some(Box::pin(drain));
        self
    }

    /// Its gRPC routes, for tests that put them behind layers of their own.
    #[must_use]
    pub fn into_routes(self) -> Routes {
        self.routes
    }

    /// Its public HTTP API, for tests that listen themselves.
    #[must_use]
    pub fn into_http(self) -> Option<axum::Router> {
        self.http
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("routes", &self.routes)
            .field("probes", &self.probes)
            .finish_non_exhaustive()
    }
}

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// One thing that readiness depends on, such as a database.
#[derive(Clone)]
pub struct Probe {
    pub(crate) name: &'static str,
    pub(crate) check: Check,
}

impl Probe {
    /// A probe that is well when the future that `check` makes is `Ok`.
    ///
    /// ```
    /// # #[derive(Clone)] struct Database;
    /// # impl Database { async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) } }
    /// # let database = Database;
    /// weir_host::Probe::new("postgres", move || {
    ///     let database = database.clone();
    ///     async move { database.ping().await }
    /// });
    /// ```
    pub fn new<F, E>(name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        Self {
            name,
            check: Arc::new(move || {
                let check = check();
                Box::pin(async move { check.await.map_err(|error| error.to_string()) })
            }),
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
