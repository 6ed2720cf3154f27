//! Sending webhooks as Standard Webhooks says: signed, bounded, and to public addresses only.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::json;
use tonic::codegen::Service;
use weir_proto::common::v1::ErrorReason;
use weir_types::OrganizationId;

use super::Jobs;
use super::work::{Work, failure};
use crate::domain::jobs::network::is_public;
use crate::domain::jobs::signature::WebhookSecret;
use crate::domain::jobs::{Ending, Failed, Finished, JobError};
use crate::domain::retry_after::retry_after;
use crate::storage::jobs::transition::NewDelivery;
use crate::storage::jobs::{JobKey, secrets, state};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How webhooks are sent; `config.defaults.toml` says what each means.
#[derive(Debug, Clone)]
pub(crate) struct WebhookOptions {
    pub(crate) allow_private: bool,
    pub(crate) timeout: Duration,
    pub(crate) max_attempts: u16,
    pub(crate) backoff: Duration,
    pub(crate) concurrency: usize,
}

type Http = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Sends webhooks.
pub(super) struct Webhooks {
    client: Http,
    pub(super) options: WebhookOptions,
}

/// A signed message.
pub(super) struct Message<'a> {
    pub(super) url: &'a str,
    /// The same whenever it is sent again.
    pub(super) id: &'a str,
    pub(super) body: Bytes,
    pub(super) secrets: &'a [WebhookSecret],
    pub(super) now: DateTime<Utc>,
}

impl Webhooks {
    pub(super) fn new(options: WebhookOptions) -> Self {
        let resolver = Resolver { inner: GaiResolver::new(), allow_private: options.allow_private };
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_all_versions().wrap_connector(http);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .build(https);
        Self { client, options }
    }

    /// Sends it once; any 2xx is success. Redirections are not followed: they could lead anywhere.
    pub(super) async fn send(&self, message: Message<'_>) -> Result<StatusCode, Failed> {
        let url = self
            .allowed(message.url)
            .map_err(|text| Failed { error: failure(ErrorReason::InvalidArgument, text), retry_after: None })?;
        let now = message.now;
        let request = signed(message, url).map_err(|error| Failed {
            error: failure(ErrorReason::InvalidArgument, error.to_string()),
            retry_after: None,
        })?;
        let answer = tokio::time::timeout(self.options.timeout, self.client.request(request)).await;
        let unanswered =
            |message: String| Failed { error: failure(ErrorReason::ProviderFailed, message), retry_after: None };
        let response = answer
            .map_err(|_| unanswered(format!("the receiver did not answer within {:?}", self.options.timeout)))?
            .map_err(|error| unanswered(format!("the receiver can't be reached: {}", root(&error))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(status);
        }
        let error = JobError {
            reason: ErrorReason::ProviderRejected,
            message: format!("the receiver answered {status}"),
            http_status: status.as_u16().into(),
        };
        Err(Failed { error, retry_after: retry_after(response.headers(), now) })
    }

    /// Fetches a file of at most `limit` bytes, under the same rules; its content type, too.
    pub(super) async fn fetch(&self, url: &str, limit: usize, timeout: Duration) -> Result<(Bytes, String), Failed> {
        let failed = |reason, text: String| Failed { error: failure(reason, text), retry_after: None };
        let url = self.allowed(url).map_err(|text| failed(ErrorReason::InvalidArgument, text))?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url;
        let broken = |text: String| failed(ErrorReason::ProviderFailed, format!("a file can't be fetched: {text}"));
        let fetch = async {
            let response = self.client.request(request).await.map_err(|error| broken(root(&error)))?;
            if !response.status().is_success() {
                return Err(broken(response.status().to_string()));
            }
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            let body = Limited::new(response.into_body(), limit).collect().await;
            Ok((body.map_err(|error| broken(error.to_string()))?.to_bytes(), content_type))
        };
        tokio::time::timeout(timeout, fetch).await.map_err(|_| broken(format!("not within {timeout:?}")))?
    }

    /// What can be told of a URL without looking up its host; the rest is checked where the address is known.
    fn allowed(&self, url: &str) -> Result<Uri, String> {
        let uri: Uri = url.parse().map_err(|_| "the URL can't be read".to_owned())?;
        if self.options.allow_private {
            return Ok(uri);
        }
        if uri.scheme_str() != Some("https") {
            return Err("webhooks are sent by https only".to_owned());
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_ok_and(|address| !is_public(address)) {
            return Err("webhooks are sent to public addresses only".to_owned());
        }
        Ok(uri)
    }
}

fn signed(message: Message<'_>, url: Uri) -> Result<Request<Full<Bytes>>, http::Error> {
    let timestamp = message.now.timestamp();
    let signatures: Vec<String> =
        message.secrets.iter().map(|secret| secret.sign(message.id, timestamp, &message.body)).collect();
    Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, JSON)
        .header(USER_AGENT, AGENT)
        .header("webhook-id", message.id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures.join(" "))
        .body(Full::new(message.body))
}

/// The first cause: "connection refused" says more than "client error (Connect)".
fn root(error: &legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Looks up hosts, and knows none of those that are inside.
#[derive(Clone)]
struct Resolver {
    inner: GaiResolver,
    allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, allow_private) = (self.inner.call(name), self.allow_private);
        Box::pin(async move {
            let addresses: Vec<_> = found.await?.filter(|at| allow_private || is_public(at.ip())).collect();
            if addresses.is_empty() {
                return Err(io::Error::other("the host has no public address"));
            }
            Ok(addresses.into_iter())
        })
    }
}

impl Jobs {
    /// The tenant's secrets that sign now.
    pub(super) async fn secrets(
        &self,
        organization: OrganizationId,
    ) -> Result<Vec<WebhookSecret>, weir_database::Error> {
        let read = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let versions = secrets::signing(&mut tx, organization).await?;
            tx.rollback().await?;
            Ok::<_, weir_database::Error>(versions)
        };
        let versions = self.database.bounded(read).await?;
        Ok(versions.into_iter().map(|version| WebhookSecret::derive(&self.master, organization, version)).collect())
    }

    /// A step that sends one.
    pub(super) async fn send_webhook(&self, work: &Work, index: usize, url: &str, body: Bytes) -> Ending {
        let Ok(secrets) = self.secrets(work.key.organization).await else {
            let error = failure(ErrorReason::Unavailable, "the webhook's secret can't be read");
            return Ending::Failed(Failed { error, retry_after: None });
        };
        let id = format!("msg_{}_{index}", work.key.job);
        let now = self.broker.clock.now();
        match self.webhooks.send(Message { url, id: &id, body, secrets: &secrets, now }).await {
            Ok(status) => {
                let body = json!({"status": status.as_u16()}).to_string().into();
                Ending::Done(Finished { body, content_type: "application/json".into(), accounting: None })
            }
            Err(failed) => Ending::Failed(failed),
        }
    }
}

/// What is told of a job's end: that it ended, and how. Who wants its results asks for them.
pub(super) fn ended(key: JobKey, url: &str, state: i16, error: Option<&JobError>, now: DateTime<Utc>) -> NewDelivery {
    let state = match state {
        state::COMPLETE => "complete",
        state::CANCELLED => "cancelled",
        _ => "failed",
    };
    let mut data = json!({"id": key.job, "name": super::name(key), "state": state});
    if let Some(error) = error.filter(|_| state == "failed") {
        data["error"] = json!({"reason": reason(error.reason), "message": error.message});
    }
    let payload = json!({"type": format!("job.{state}"), "timestamp": now, "data": data});
    NewDelivery { id: super::new_id(), url: url.to_owned(), payload: payload.to_string().into_bytes() }
}

/// As `ErrorInfo` spells it.
pub(crate) fn reason(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhooks(allow_private: bool) -> Webhooks {
        let timeout = Duration::from_secs(1);
        Webhooks::new(WebhookOptions { allow_private, timeout, max_attempts: 1, backoff: timeout, concurrency: 1 })
    }

    #[test]
    fn addresses_inside_and_plain_http_are_refused_unless_allowed() {
        let closed = webhooks(false);
        for url in ["http://example.com", "https://127.0.0.1/x", "https://[::1]:8443", "https://[::ffff:10.0.0.1]/"] {
            assert!(closed.allowed(url).is_err(), "{url}");
            assert!(webhooks(true).allowed(url).is_ok(), "{url}");
        }
        assert!(closed.allowed("https://example.com/hook").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_found_nowhere() {
        let mut resolver = Resolver { inner: GaiResolver::new(), allow_private: false };
        let name = || "localhost".parse::<Name>().expect("a name");
        assert!(resolver.call(name()).await.is_err());
        resolver.allow_private = true;
        assert!(resolver.call(name()).await.expect("found").all(|at| at.ip().is_loopback()));
    }
}
