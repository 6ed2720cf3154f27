//! Reading a request's body within its bounds, and what becomes of one that nobody reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, Request};
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Call, Error};

use crate::refusal::{Class, Refusal};

/// Bodies up to this have mostly arrived together with their head.
const SMALL: usize = 4096;
/// How long the rest of a refused request is still taken.
const DRAIN_FOR: Duration = Duration::from_secs(5);
const DRAINS: usize = 64;

/// What a body must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: usize,
    /// The longest wait for its next piece.
    pub(crate) pause: Duration,
}

impl BodyLimits {
    /// The whole body. What states a larger size than is allowed is refused unread.
    pub(crate) async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, Refusal> {
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "The body is compressed, which is not supported here: send it as it is.";
            return Err(Refusal::of(Class::EncodingNotSupported, message));
        }
        let stated = stated_length(headers);
        if stated.is_some_and(|length| length > self.max_bytes) {
            return Err(self.too_large());
        }
        let end = Call::current().and_then(|call| call.deadline());
        let mut length = 0;
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        loop {
            let next = Instant::now() + self.pause;
            let until = end.map_or(next, |end| end.min(next));
            let frame = timeout_at(until, body.frame()).await;
            let frame = frame.map_err(|_| Refusal::of(Class::BodyTooSlow, "The body did not come in time."))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| {
                Error::new(ErrorReason::InvalidArgument, "The body could not be read.").internal(error)
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len();
            if length > self.max_bytes {
                return Err(self.too_large());
            }
            // Nearly all bodies come in one piece, which is passed on as it is.
            if first.is_empty() {
                first = piece;
            } else {
                if joined.is_empty() {
                    joined.reserve(stated.unwrap_or(length).max(length));
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&piece);
            }
            if body.is_end_stream() {
                break;
            }
        }
        Ok(if joined.is_empty() { first } else { joined.freeze() })
    }

    fn too_large(&self) -> Refusal {
        Error::new(ErrorReason::TooLarge, format!("The body is larger than {} bytes.", self.max_bytes)).into()
    }
}

fn stated_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Takes what is left of requests that are refused before their body was read. Without that the connection would be
/// closed with unread data in it, which resets it, and the client may lose the answer over the reset.
#[derive(Debug, Clone)]
pub(crate) struct Drains {
    tasks: TaskTracker,
    room: Arc<Semaphore>,
}

impl Drains {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, room: Arc::new(Semaphore::new(DRAINS)) }
    }

    /// Sees to it that the body is drained should nobody read it to its end.
    pub(crate) fn watch(&self, request: Request<Body>) -> Request<Body> {
        let (head, body) = request.into_parts();
        let is_small = match stated_length(&head.headers) {
            Some(length) => length <= SMALL,
            None => body.is_end_stream(),
        };
        // Who expects to be asked first has not begun to send.
        if is_small || head.headers.contains_key(EXPECT) {
            return Request::from_parts(head, body);
        }
        Request::from_parts(head, Body::new(Watched { body: Some(body), drains: self.clone() }))
    }

    fn drain(&self, body: Body, room: OwnedSemaphorePermit) {
        let rest = async move {
            let mut body = body;
            while let Some(Ok(_)) = body.frame().await {}
            drop(room);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(timeout(DRAIN_FOR, rest), &runtime);
        }
    }
}

struct Watched {
    /// None: read to its end.
    body: Option<Body>,
    drains: Drains,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && let Ok(room) = Arc::clone(&self.drains.room).try_acquire_owned()
        {
            self.drains.drain(body, room);
        }
    }
}
