//! One HTTP call to a provider.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// An answer longer than this is not read.
pub(crate) const MAX_ANSWER: usize = 64 << 20;

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(crate) const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// A pool of connections to one provider.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What is sent.
pub(crate) struct ProviderCall {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    /// The key, and whatever else the provider wants to be told.
    pub(crate) headers: HeaderMap,
    /// Told to the provider as `x-client-request-id`: the reservation's id.
    pub(crate) id: HeaderValue,
    pub(crate) body: Bytes,
    /// What is expected back.
    pub(crate) accept: HeaderValue,
    pub(crate) timeout: Duration,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFailure {
    /// Nothing was sent.
    #[error("the provider can't be reached: {0}")]
    Connect(#[source] legacy::Error),
    /// The connection ended before the answer began.
    #[error("the provider closed the connection without an answer: {0}")]
    NoAnswer(#[source] legacy::Error),
    /// The answer did not begin in time.
    #[error("the provider did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the provider's answer broke off: {0}")]
    BrokeOff(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Client {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(connect_timeout));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let https =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_all_versions().wrap_connector(http);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .http2_adaptive_window(true)
            .build(https);
        Self(client)
    }

    /// Sends a call; answers when the provider's answer begins.
    pub(crate) async fn send(&self, call: ProviderCall) -> Result<Response<Incoming>, CallFailure> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.url;
        *request.headers_mut() = call.headers;
        let headers = request.headers_mut();
        headers.reserve(4);
        headers.entry(CONTENT_TYPE).or_insert(JSON);
        headers.insert(ACCEPT, call.accept);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CLIENT_REQUEST_ID, call.id);
        match tokio::time::timeout(call.timeout, self.0.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(CallFailure::Connect(error)),
            Ok(Err(error)) => Err(CallFailure::NoAnswer(error)),
            Err(_) => Err(CallFailure::Timeout(call.timeout)),
        }
    }
}

/// Reads a whole answer of at most `limit` bytes within `timeout`.
pub(crate) async fn read(body: Incoming, limit: usize, timeout: Duration) -> Result<Bytes, CallFailure> {
    match tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(CallFailure::BrokeOff(error)),
        Err(_) => Err(CallFailure::Timeout(timeout)),
    }
}
