//! The body of an answer that is a sound: bytes as the broker sends them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream as _;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};
use weir_proto::broker::v1::StreamInvokeResponse;
use weir_proto::broker::v1::stream_invoke_response::Part;

/// The rest of a sound, after its start. An error can only break it off: the connection ends without the last chunk, so that no
/// client takes what came for the whole.
pub(crate) struct Sound {
    parts: Streaming<StreamInvokeResponse>,
    _room: OwnedSemaphorePermit,
}

impl Sound {
    /// Holds its room among the requests in flight to its end.
    pub(crate) fn new(parts: Streaming<StreamInvokeResponse>, room: OwnedSemaphorePermit) -> Self {
        Self { parts, _room: room }
    }
}

impl http_body::Body for Sound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match std::task::ready!(Pin::new(&mut self.parts).poll_next(context)) {
                Some(Ok(StreamInvokeResponse { part: Some(Part::Chunk(chunk)) })) => {
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }
}
