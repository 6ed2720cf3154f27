//! Bodies of calls: of answers from another process, and of both ways within this one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use weir_proto::codec::hand_over;

use super::unavailable;

/// Counts a call as in flight until it is dropped.
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body whose errors name the peer, and which counts as in flight until it ends.
pub(super) struct RemoteBody {
    pub(super) inner: Incoming,
    pub(super) peer: Arc<str>,
    pub(super) _in_flight: InFlight,
}

impl http_body::Body for RemoteBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map_err(|error| broken(&self.peer, &error))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that is written and read in this process: its messages are handed over as they are.
pub(super) struct LocalBody(Body);

impl LocalBody {
    pub(super) fn around(body: Body) -> Body {
        Body::new(Self(body))
    }
}

impl http_body::Body for LocalBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        hand_over(|| Pin::new(&mut self.0).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A connection broke while an answer was awaited or read.
pub(super) fn broken(peer: &str, error: &hyper::Error) -> Status {
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    unavailable(peer, &cause)
}
