//! What a response is made of: one piece, a piece that breaks off, or a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::books::Entry;
use crate::connection::Link;
use crate::stream::Stream;

/// The body broke off on purpose: hyper closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off here")]
pub(crate) struct Broken;

pub(crate) enum Reply {
    /// Sent at once, together with the head.
    Whole(Option<Bytes>),
    /// Promises so many bytes, sends some of them, and breaks off.
    Part { piece: Option<Bytes>, promised: u64, link: Arc<Link>, reset: bool, entry: Option<Entry> },
    /// Server-sent events.
    Stream(Box<Stream>),
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Part { piece, link, reset, entry, .. } => {
                if let Some(bytes) = piece.take().filter(|bytes| !bytes.is_empty()) {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                // hyper flushes what it has when a body is not ready; only then may the connection break.
                if entry.take().is_some() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if *reset {
                    link.reset_on_close();
                }
                Poll::Ready(Some(Err(Broken)))
            }
            Self::Stream(stream) => stream.poll(cx).map(|event| event.map(|event| event.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Part { promised, .. } => SizeHint::with_exact(*promised),
            Self::Stream(_) => SizeHint::new(),
        }
    }
}
