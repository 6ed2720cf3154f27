//! The gRPC services that one of our services offers.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// The generated servers of one service. Made like tonic's `Routes`, which goes through a general HTTP router on
/// every call; here a method is found once, in the stack's own table.
#[derive(Clone, Default)]
pub struct Routes(Vec<(&'static str, Arc<dyn Handler>)>);

/// A generated server behind a pointer.
pub(crate) trait Handler: Send + Sync {
    fn call(&self, request: Request<Body>) -> BoxFuture<Response<Body>, Infallible>;
}

impl<S> Handler for S
where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + Clone
        + Send
        + Sync,
{
    fn call(&self, request: Request<Body>) -> BoxFuture<Response<Body>, Infallible> {
        // Generated servers are always ready, and cheap to clone.
        Service::call(&mut self.clone(), request)
    }
}

impl Routes {
    /// One generated server.
    #[must_use]
    pub fn new<S>(server: S) -> Self
    where
        S: Service<
                Request<Body>,
                Response = Response<Body>,
                Error = Infallible,
                Future = BoxFuture<Response<Body>, Infallible>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Self::default().add_service(server)
    }

    /// And another one.
    #[must_use]
    pub fn add_service<S>(mut self, server: S) -> Self
    where
        S: Service<
                Request<Body>,
                Response = Response<Body>,
                Error = Infallible,
                Future = BoxFuture<Response<Body>, Infallible>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.0.push((S::NAME, Arc::new(server)));
        self
    }

    /// The full names of the services.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The server of a method's path (`/{service}/{method}`).
    pub(crate) fn find(&self, path: &str) -> Option<Arc<dyn Handler>> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.0.iter().find(|(name, _)| *name == service).map(|(_, handler)| Arc::clone(handler))
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
