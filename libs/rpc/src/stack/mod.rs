//! What every call goes through before it reaches a handler.

mod authenticate;
mod body;
mod load;
mod measure;
mod open;

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tracing::Instrument as _;
use weir_proto::common::v1::ErrorReason;

use crate::call::{self, GRPC_TIMEOUT};
use crate::caller::{Admitted, EndsItself};
use crate::config::Config;
use crate::error::complete;
use crate::routes::Handler;
use crate::{Access, Call, Error, Routes, Verifier, methods};
use body::StreamBody;
use load::{Load, Working};
use measure::{Measured, MethodMetrics};
pub use open::Health;

/// Puts the layers around a service's routes.
#[derive(Debug)]
pub struct Stack {
    service: &'static str,
    routes: Routes,
    access: &'static [(&'static str, Access)],
    essential: &'static [&'static str],
}

/// A service with all its layers: what a listener serves, and what siblings in the same process call.
#[derive(Clone)]
pub struct Stacked(Arc<Inner>);

struct Inner {
    service: &'static str,
    methods: HashMap<&'static str, Entry>,
    verifier: Verifier,
    load: Load,
    max_deadline: Duration,
    health: Health,
    /// Cancelled when the process is about to stop: streams that watch, and would never end, end.
    stopping: CancellationToken,
}

/// All that is known about a method, found once per call.
struct Entry {
    path: &'static str,
    /// None: the service offers it and its table does not list it, so it is refused.
    access: Option<Access>,
    streams: bool,
    essential: bool,
    handler: Arc<dyn Handler>,
    metrics: MethodMetrics,
}

impl Stack {
    /// The routes of `service`, and who may call them.
    #[must_use]
    pub fn new(service: &'static str, routes: Routes, access: &'static [(&'static str, Access)]) -> Self {
        Self { service, routes, access, essential: &[] }
    }

    /// Methods (paths) that are still taken when the service is full: those that end work, not those that begin it.
    #[must_use]
    pub fn essential(mut self, methods: &'static [&'static str]) -> Self {
        self.essential = methods;
        self
    }

    /// Health and reflection are added here, so that no service is without.
    ///
    /// # Errors
    /// When the descriptors can't be offered by reflection.
    pub async fn build(self, verifier: Verifier, config: &Config) -> Result<Stacked, tonic_reflection::server::Error> {
        let (health, open) = open::services(&self.routes).await?;
        let listed: HashMap<&str, Access> = self.access.iter().copied().collect();
        let of_service = self.routes.names().flat_map(methods).filter_map(|method| {
            let access = listed.get(method.path).copied().filter(|access| *access != Access::Open);
            Some((method.path, method.streams, access, self.routes.find(method.path)?))
        });
        let of_all = open::METHODS
            .iter()
            .filter_map(|(path, streams)| Some((*path, *streams, Some(Access::Open), open.find(path)?)));
        let methods = of_service
            .chain(of_all)
            .map(|(path, streams, access, handler)| {
                let essential = self.essential.contains(&path) || access == Some(Access::Open);
                (path, Entry { path, access, streams, essential, handler, metrics: MethodMetrics::new(path) })
            })
            .collect();
        Ok(Stacked(Arc::new(Inner {
            service: self.service,
            methods,
            verifier,
            load: Load::new(self.service, config.server.max_in_flight),
            max_deadline: config.server.max_deadline,
            health,
            stopping: CancellationToken::new(),
        })))
    }
}

impl Stacked {
    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// The service's health, which starts as not serving.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// The process is about to stop: streams without a deadline, which watch and would never end, end with
    /// `UNAVAILABLE`, so that their clients turn to another instance.
    pub fn end_watches(&self) {
        self.0.stopping.cancel();
    }

    /// Serves one call. All outcomes are responses.
    pub fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let stack = Arc::clone(&self.0);
        Box::pin(async move { stack.serve(request).await })
    }
}

impl Inner {
    /// The layers, top to bottom.
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        // Nothing below is done for a method that does not exist.
        let Some(method) = self.methods.get(request.uri().path()) else {
            return refuse(Error::new(ErrorReason::Unimplemented, "this service does not offer the method"));
        };
        let now = Instant::now();
        let call = Call::new(call::request_id(request.headers()), self.deadline(method, &request, now));

        // 1. Trace: outermost, so that everything below happens in the caller's trace. Without an exporter, nothing.
        let span = tracing::info_span!(
            target: "weir_rpc",
            "rpc",
            otel.name = method.path,
            otel.kind = "server",
            rpc.system = "grpc",
            request_id = call.request_id().to_str().unwrap_or(""),
        );
        weir_telemetry::context::continue_trace(&span, request.headers());

        // 2. Metrics: see every outcome, also a panic, a refusal, and a caller that leaves (then it is dropped).
        let measured = method.metrics.start(now);

        // 3. Catch panics: a defect in one call must not end the connection that carries others.
        let answer = AssertUnwindSafe(self.within_deadline(method, request, call.deadline())).catch_unwind();

        // The call's id and deadline are there for all that is called while it is served.
        let answer = call.clone().scope(answer).instrument(span.clone()).await;
        let answer = answer.unwrap_or_else(|panic| Err(call.sync_scope(|| panicked(method.path, &*panic))));
        match answer {
            Ok((response, working)) => self.finish(method, response, working, measured, call, span),
            Err(error) => {
                let status = call.sync_scope(|| span.in_scope(|| Status::from(error)));
                measured.end(status.code());
                status.into_http()
            }
        }
    }

    /// 4. Deadline: bounds everything that waits, authentication too.
    async fn within_deadline(
        &self,
        method: &Entry,
        request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<(Response<Body>, Working), Error> {
        let Some(deadline) = deadline else { return self.admit(method, request, None).await };
        match tokio::time::timeout_at(deadline, self.admit(method, request, Some(deadline))).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorReason::DeadlineExceeded, "the deadline passed")),
        }
    }

    async fn admit(
        &self,
        method: &Entry,
        mut request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<(Response<Body>, Working), Error> {
        // 5. Load shedding: before authentication, whose work it spares.
        let working = self.load.enter(method.essential)?;

        match method.access {
            // Health and reflection.
            Some(Access::Open) => {}
            Some(access) => {
                // 6. Authentication: who is it? Nothing but health and reflection goes without.
                let caller = authenticate::caller(&self.verifier, request.headers()).await?;

                // 7. Authorization: may they call this method? What they may see in it is the handler's question.
                access.check(&caller)?;
                let stopping = method.streams.then(|| self.stopping.clone());
                request.extensions_mut().insert(Admitted { caller, deadline, stopping });
            }
            // Closed unless listed.
            None => return Err(Error::new(ErrorReason::PermissionDenied, "nobody may call this method")),
        }

        // 8. The handler.
        let response = method.handler.call(request).await.unwrap_or_else(|never: Infallible| match never {});
        Ok((response, working))
    }

    /// The way back: an error gets its details, a stream goes on being measured and bounded while it flows.
    fn finish(
        &self,
        method: &Entry,
        response: Response<Body>,
        working: Working,
        measured: Measured<'_>,
        call: Call,
        span: tracing::Span,
    ) -> Response<Body> {
        if response.headers().contains_key(Status::GRPC_STATUS) {
            let status = response.extensions().get::<Status>().cloned();
            let status = status.or_else(|| Status::from_header_map(response.headers()));
            let Some(status) = status else { return response };
            measured.end(status.code());
            let completed = call.sync_scope(|| span.in_scope(|| complete(&status)));
            return completed.map_or(response, |status| status.into_http());
        }
        if method.streams {
            let (head, body) = response.into_parts();
            let stopping = head.extensions.get::<EndsItself>().is_none().then_some(&self.stopping);
            let body = StreamBody::new(body, working, measured.stream(), call, span, stopping);
            return Response::from_parts(head, Body::new(body));
        }
        measured.end(tonic::Code::Ok);
        response
    }

    /// Until when the caller waits, capped. A stream without a deadline has none: it watches.
    fn deadline(&self, method: &Entry, request: &Request<Body>, now: Instant) -> Option<Instant> {
        let timeout = request.headers().get(GRPC_TIMEOUT).and_then(call::parse_timeout);
        match timeout {
            Some(timeout) => Some(now + timeout.min(self.max_deadline)),
            None if method.streams => None,
            None => Some(now + self.max_deadline),
        }
    }
}

fn refuse(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}

fn panicked(path: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::defect(format!("{path} panicked: {text}"))
}

impl tower::Service<Request<Body>> for Stacked {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures::future::Map<
        BoxFuture<'static, Response<Body>>,
        fn(Response<Body>) -> Result<Response<Body>, Infallible>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.handle(request).map(Ok)
    }
}

impl std::fmt::Debug for Stacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stacked({}, {} methods)", self.0.service, self.0.methods.len())
    }
}
