//! Calls to a sibling service, wherever it runs.

mod body;
mod local;
mod peer;
mod pool;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use weir_discovery::Directory;
use weir_proto::common::v1::ErrorReason;

use crate::call::{self, GRPC_TIMEOUT, REQUEST_ID};
use crate::config::Config;
use crate::error::silent_status;
use crate::{Error, ServiceIdentity};
use body::LocalBody;
pub use local::LocalSlot;
use pool::Pool;

/// A way to a sibling: pass it to the generated client, `QuotaServiceClient::new(context.channels.to("quota"))`.
///
/// Every call carries the caller's identity (unless the request brings an `authorization` of its own), the id and the
/// remaining time of the request that is being served, and the trace. Calls are not repeated here; only instances that
/// can't be connected to are passed over.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    identity: ServiceIdentity,
    deadline: Duration,
    max_message_bytes: usize,
    transport: Transport,
}

enum Transport {
    Local(LocalSlot),
    Remote(Pool),
}

impl Channel {
    /// To a service in this process: its own layers, no socket, and no encoding of messages.
    #[must_use]
    pub fn local(slot: LocalSlot, identity: ServiceIdentity, config: &Config) -> Self {
        Self::new(Transport::Local(slot), identity, config)
    }

    /// To the instances of the service `name` that `directory` knows. Connects when it is first used.
    #[must_use]
    pub fn remote(directory: &Arc<dyn Directory>, name: &str, identity: ServiceIdentity, config: &Config) -> Self {
        Self::new(Transport::Remote(Pool::new(directory, name, config)), identity, config)
    }

    fn new(transport: Transport, identity: ServiceIdentity, config: &Config) -> Self {
        Self(Arc::new(Inner {
            identity,
            deadline: config.client.deadline,
            max_message_bytes: config.max_message_bytes,
            transport,
        }))
    }

    /// The largest message, for the generated client's `max_decoding_message_size`.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.0.max_message_bytes
    }

    /// The sibling's name.
    #[must_use]
    pub fn peer(&self) -> &str {
        match &self.0.transport {
            Transport::Local(slot) => slot.name(),
            Transport::Remote(pool) => pool.name(),
        }
    }

    /// Completes the request's headers; answers until when there is time, if there is an end.
    fn prepare(&self, path: &str, headers: &mut HeaderMap) -> Option<Instant> {
        if !headers.contains_key(AUTHORIZATION) {
            headers.insert(AUTHORIZATION, self.0.identity.authorization());
        }
        let given = headers.get(GRPC_TIMEOUT).and_then(call::parse_timeout);
        let served = call::with_current(|call| {
            if !headers.contains_key(REQUEST_ID) {
                headers.insert(REQUEST_ID, call.request_id().clone());
            }
            call.deadline()
        })
        .flatten();
        let now = Instant::now();
        let given = given.map(|timeout| now + timeout);
        let deadline = match (given, served) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => (!streams(path)).then(|| now + self.0.deadline),
        };
        if let Some(deadline) = deadline {
            headers.insert(GRPC_TIMEOUT, call::format_timeout(deadline.saturating_duration_since(now)));
        }
        weir_telemetry::context::inject(headers);
        deadline
    }
}

/// Whether a method answers with a stream.
fn streams(path: &str) -> bool {
    static STREAMS: LazyLock<HashMap<&'static str, bool>> =
        LazyLock::new(|| crate::all_methods().iter().map(|method| (method.path, method.streams)).collect());
    STREAMS.get(path).copied().unwrap_or(true)
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let (mut head, body) = request.into_parts();
        let deadline = self.prepare(head.uri.path(), &mut head.headers);
        let request = Request::from_parts(head, body);
        ResponseFuture(match &self.0.transport {
            // The server's own layers keep the deadline.
            Transport::Local(slot) => match slot.get() {
                Some(service) => Kind::Local(service.handle(request.map(LocalBody::around))),
                None => Kind::Refused(Some(unavailable(slot.name(), "has not started yet"))),
            },
            Transport::Remote(pool) => {
                let pool = pool.clone();
                Kind::Remote(Box::pin(async move {
                    let Some(deadline) = deadline else { return pool.send(request).await };
                    match tokio::time::timeout_at(deadline, pool.send(request)).await {
                        Ok(answer) => answer,
                        Err(_) => Err(deadline_exceeded(pool.name())),
                    }
                }))
            }
        })
    }
}

/// The answer's head, when it comes.
pub struct ResponseFuture(Kind);

enum Kind {
    Local(BoxFuture<'static, Response<Body>>),
    Remote(BoxFuture<'static, Result<Response<Body>, Status>>),
    Refused(Option<Status>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Local(answer) => answer.as_mut().poll(cx).map(|answer| Ok(answer.map(LocalBody::around))),
            Kind::Remote(answer) => answer.as_mut().poll(cx),
            Kind::Refused(status) => {
                Poll::Ready(Err(status.take().unwrap_or_else(|| Status::internal("polled after it was ready"))))
            }
        }
    }
}

/// The peer can't be reached. Not logged here: who called decides what that means.
fn unavailable(peer: &str, why: &str) -> Status {
    silent_status(&Error::new(ErrorReason::Unavailable, format!("{peer}: {why}")).metadata("peer", peer))
}

fn deadline_exceeded(peer: &str) -> Status {
    silent_status(
        &Error::new(ErrorReason::DeadlineExceeded, format!("{peer}: no answer before the deadline"))
            .metadata("peer", peer),
    )
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0.transport {
            Transport::Local(_) => "local",
            Transport::Remote(_) => "remote",
        };
        write!(f, "Channel({} -> {}, {kind})", self.0.identity.name(), self.peer())
    }
}
