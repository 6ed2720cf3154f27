//! The body of a streamed answer: server-sent events as the broker sends them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream as _;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Streaming;
use weir_proto::broker::v1::StreamInvokeResponse;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_rpc::{Call, Failure};

use super::errors::OpenAiError;
use crate::refusal::Refusal;

/// The rest of a stream, after its start. An error becomes an event, and the stream then ends as
/// OpenAI's do, so that clients stop waiting.
pub(crate) struct Events {
    parts: Streaming<StreamInvokeResponse>,
    over: bool,
    /// The request that is answered: its id goes into the log.
    call: Option<Call>,
    _room: OwnedSemaphorePermit,
}

impl Events {
    /// Holds its room among the requests in flight to its end.
    pub(crate) fn new(parts: Streaming<StreamInvokeResponse>, room: OwnedSemaphorePermit) -> Self {
        Self { parts, over: false, call: Call::current(), _room: room }
    }

    fn refused(&self, status: tonic::Status) -> Bytes {
        let refuse = || OpenAiError::from(Refusal::from(Failure::from(status))).event();
        match &self.call {
            Some(call) => call.sync_scope(refuse),
            None => refuse(),
        }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while !self.over {
            match std::task::ready!(Pin::new(&mut self.parts).poll_next(context)) {
                Some(Ok(StreamInvokeResponse { part: Some(Part::Chunk(chunk)) })) => {
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
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
