//! What every request goes through before it reaches its route, and every answer on its way out.

mod metrics;

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::Instrument as _;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Call, Error, REQUEST_ID};

use crate::body::Drains;
use crate::refusal::{Class, Refusal};
use crate::shape::Shape;
use metrics::Metrics;

/// Where Anthropic's clients look for a request's id.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// How long requests may take, and what takes the rest of those that are refused.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of a call to a model.
    pub(crate) deadline: Duration,
    /// Of everything else.
    pub(crate) api_deadline: Duration,
    pub(crate) drains: Drains,
}

/// Puts the edge around all routes, and answers what is none.
pub(crate) fn around(router: Router, settings: Settings) -> Router {
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(EdgeLayer(Arc::new(Inner { settings, metrics: Metrics::default() })))
}

#[derive(Clone)]
struct EdgeLayer(Arc<Inner>);

struct Inner {
    settings: Settings,
    metrics: Metrics,
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, route: S) -> Edge<S> {
        Edge { inner: Arc::clone(&self.0), route }
    }
}

#[derive(Clone)]
struct Edge<S> {
    inner: Arc<Inner>,
    route: S,
}

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let path = request.uri().path();
        let shape = Shape::of(path);
        let settings = &self.inner.settings;
        let limit = if is_model_call(path) { settings.deadline } else { settings.api_deadline };
        let id = weir_rpc::request_id(request.headers());
        let call = Call::new(id.clone(), Some(now + limit));
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);

        // 1. Trace: outermost, so that all services continue the caller's trace. Without an exporter, nothing.
        let span = tracing::info_span!(
            target: "weir_facade",
            "http",
            otel.name = route.unwrap_or("unknown"),
            otel.kind = "server",
            http.request.method = request.method().as_str(),
            request_id = id.to_str().unwrap_or(""),
        );
        weir_telemetry::context::continue_trace(&span, request.headers());

        // 2. Metrics: see every outcome, also a panic, and a client that leaves (then they are dropped).
        let measured = self.inner.metrics.start(route, now);

        // 3. The rest of a body that nobody reads is drained.
        let request = settings.drains.watch(request);

        // 4. Panics: a defect in one request is that request's answer.
        let answer = AssertUnwindSafe(self.route.call(request)).catch_unwind();
        Box::pin(async move {
            // The id and the deadline go along to every service that is asked meanwhile.
            let answer = call.clone().scope(answer).instrument(span).await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Err(panic) => call.sync_scope(|| shape.refuse(panicked(&*panic))),
            };
            if shape == Shape::Anthropic {
                response.headers_mut().insert(ANTHROPIC_REQUEST_ID, id.clone());
            }
            response.headers_mut().insert(REQUEST_ID, id);
            response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            measured.end(response.status());
            Ok(response)
        })
    }
}

fn is_model_call(path: &str) -> bool {
    // A stream of events lasts as long as an answer of a model may.
    path.strip_prefix("/v1/").is_some_and(|rest| !rest.starts_with("models"))
        || path.starts_with("/api/v1/jobs/") && path.ends_with("/events")
}

fn panicked(panic: &(dyn Any + Send)) -> Refusal {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    Error::defect(format!("a route panicked: {text}")).into()
}

async fn unknown_route(uri: Uri) -> Response<Body> {
    let path = uri.path();
    let message = format!("There is no {path} here. What there is, is described at /api/v1/openapi.json.");
    Shape::of(path).refuse(Error::new(ErrorReason::NotFound, message).into())
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response<Body> {
    let path = uri.path();
    let message = format!("{path} does not take {method}. What it takes is described at /api/v1/openapi.json.");
    Shape::of(path).refuse(Refusal::of(Class::MethodNotAllowed, message))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tokio_util::task::TaskTracker;
    use tower::ServiceExt as _;

    use super::*;

    async fn broken() -> &'static str {
        panic!("the secret of the defect");
    }

    #[tokio::test]
    async fn a_panic_is_that_requests_answer_in_its_shape() {
        let settings = Settings {
            deadline: Duration::from_secs(9),
            api_deadline: Duration::from_secs(9),
            drains: Drains::new(TaskTracker::new()),
        };
        let router = Router::new().route("/v1/broken", get(broken)).route("/api/broken", get(broken));
        let router = around(router, settings);
        for (path, kind) in [("/v1/broken", "application/json"), ("/api/broken", "application/problem+json")] {
            let request = Request::get(path).header(REQUEST_ID, "mine").body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(
                (response.status().as_u16(), &response.headers()[REQUEST_ID]),
                (500, &"mine".parse().expect("text"))
            );
            assert_eq!(response.headers()["content-type"], kind);
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(!String::from_utf8_lossy(&body).contains("secret"), "{body:?}");
        }
    }
}
