//! The body of a streamed answer: server-sent events as the broker sends them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream as _;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Streaming;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{QueueStanding, StreamInvokeResponse};
use weir_rpc::{Call, Failure};

use crate::shape::Shape;

/// The rest of a stream, after its start. An error becomes an event, and the stream then ends as
/// those of its API do, so that clients stop waiting.
pub(crate) struct Events {
    parts: Streaming<StreamInvokeResponse>,
    over: bool,
    /// To be said first.
    standing: Option<QueueStanding>,
    /// The request that is answered: its id goes into the log.
    call: Option<Call>,
    shape: Shape,
    _room: OwnedSemaphorePermit,
}

impl Events {
    /// Holds its room among the requests in flight to its end.
    pub(crate) fn new(
        parts: Streaming<StreamInvokeResponse>,
        room: OwnedSemaphorePermit,
        standing: Option<QueueStanding>,
        shape: Shape,
    ) -> Self {
        Self { parts, over: false, standing, call: Call::current(), shape, _room: room }
    }

    fn refused(&self, status: tonic::Status) -> Bytes {
        let refuse = || self.shape.event(Failure::from(status).into());
        match &self.call {
            Some(call) => call.sync_scope(refuse),
            None => refuse(),
        }
    }
}

/// A comment, which clients of server-sent events skip (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
fn comment(standing: &QueueStanding) -> Bytes {
    let position = standing.position;
    let text = match standing.eta {
        Some(eta) => format!(": queue position {position}, about {} s\n\n", eta.seconds + i64::from(eta.nanos > 0)),
        None => format!(": queue position {position}\n\n"),
    };
    text.into()
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(standing) = self.standing.take() {
            return Poll::Ready(Some(Ok(Frame::data(comment(&standing)))));
        }
        while !self.over {
            match std::task::ready!(Pin::new(&mut self.parts).poll_next(context)) {
                Some(Ok(StreamInvokeResponse { part: Some(Part::Chunk(chunk)) })) => {
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Some(Ok(StreamInvokeResponse { part: Some(Part::Queued(standing)) })) => {
                    return Poll::Ready(Some(Ok(Frame::data(comment(&standing)))));
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => {
                    self.over = true;
                    return Poll::Ready(Some(Ok(Frame::data(self.refused(status)))));
                }
                None => self.over = true,
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
