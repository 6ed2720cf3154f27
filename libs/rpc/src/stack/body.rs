//! A streamed answer while it flows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::{Code, Status};
use weir_proto::common::v1::ErrorReason;

use super::load::Working;
use super::measure::MeasuredStream;
use crate::error::complete;
use crate::{Call, Error};

/// What the layers do for a call's head, done for its stream: trace, metrics, panics, deadline, load.
pub(super) struct StreamBody {
    inner: Body,
    ended: bool,
    limit: Limit,
    call: Call,
    span: tracing::Span,
    measured: MeasuredStream,
    _working: Working,
}

/// What ends a stream that does not end by itself.
enum Limit {
    /// The caller's deadline.
    Deadline(Pin<Box<Sleep>>),
    /// A watch goes on until the process stops.
    Stop(Pin<Box<WaitForCancellationFutureOwned>>),
    /// It sees to its end itself.
    None,
}

impl Limit {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match self {
            Self::Deadline(sleep) => {
                sleep.as_mut().poll(cx).map(|()| Error::new(ErrorReason::DeadlineExceeded, "the deadline passed"))
            }
            Self::Stop(stop) => {
                stop.as_mut().poll(cx).map(|()| Error::new(ErrorReason::Unavailable, "this instance is stopping"))
            }
            Self::None => Poll::Pending,
        }
    }
}

impl StreamBody {
    pub(super) fn new(
        inner: Body,
        working: Working,
        measured: MeasuredStream,
        call: Call,
        span: tracing::Span,
        stopping: Option<&CancellationToken>,
    ) -> Self {
        let limit = match (call.deadline(), stopping) {
            (Some(at), _) => Limit::Deadline(Box::pin(tokio::time::sleep_until(at))),
            (None, Some(stopping)) => Limit::Stop(Box::pin(stopping.clone().cancelled_owned())),
            (None, None) => Limit::None,
        };
        Self { inner, ended: false, limit, call, span, measured, _working: working }
    }

    /// Ends the stream with an error.
    fn end(&mut self, error: Error) -> Frame<Bytes> {
        self.end_with(&Status::from(error))
    }

    fn end_with(&mut self, status: &Status) -> Frame<Bytes> {
        self.ended = true;
        self.measured.ended(status.code());
        let mut trailers = HeaderMap::new();
        // Fails only for a message that is no header value; the code is in then.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let inner = &mut self.inner;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        let frame = match polled {
            Ok(Poll::Ready(Some(Ok(frame)))) => frame,
            Ok(Poll::Ready(Some(Err(status)))) => {
                self.measured.ended(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            Ok(Poll::Ready(None)) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Ok(Poll::Pending) => {
                let error = ready!(self.limit.poll(cx));
                return Poll::Ready(Some(Ok(self.end(error))));
            }
            Err(panic) => {
                let error = super::panicked("a stream", &*panic);
                return Poll::Ready(Some(Ok(self.end(error))));
            }
        };
        if let Some(trailers) = frame.trailers_ref() {
            let status = Status::from_header_map(trailers);
            self.measured.ended(status.as_ref().map_or(Code::Ok, Status::code));
            if let Some(completed) = status.as_ref().and_then(complete) {
                return Poll::Ready(Some(Ok(self.end_with(&completed))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let (call, span) = (this.call.clone(), this.span.clone());
        call.sync_scope(|| span.in_scope(|| this.poll(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
