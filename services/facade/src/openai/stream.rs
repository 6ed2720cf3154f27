//! The body of a streamed answer: server-sent events as the broker sends them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio_stream::Stream as _;
use tonic::Streaming;
use weir_proto::broker::v1::StreamInvokeResponse;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_rpc::{Error, Failure};

use super::errors::OpenAiError;

/// The rest of a stream, after its start. An error becomes an event, and the stream then ends as
/// OpenAI's do, so that clients stop waiting.
pub(crate) struct Events {
    parts: Streaming<StreamInvokeResponse>,
    over: bool,
}

impl Events {
    pub(crate) fn new(parts: Streaming<StreamInvokeResponse>) -> Self {
        Self { parts, over: false }
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
                    let error = OpenAiError::from(Error::from(Failure::from(&status)));
                    return Poll::Ready(Some(Ok(Frame::data(error.event()))));
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
