//! Streams that are kept: passed on as they come, and remembered up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use tokio_util::task::TaskTracker;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, StreamInvokeResponse, StreamStart};
use weir_rpc::Error;

use super::StreamAnswer;

/// A stream of parts, as clients get it.
pub(crate) enum Parts {
    /// From the provider.
    Live(Box<StreamAnswer>),
    /// From the provider, and remembered.
    Taped(Box<Taped>),
    /// Remembered.
    Replayed(std::vec::IntoIter<Part>),
}

impl Parts {
    /// What was remembered.
    pub(crate) fn replayed(parts: Vec<Part>) -> Self {
        Self::Replayed(parts.into_iter())
    }
}

impl Stream for Parts {
    type Item = Result<StreamInvokeResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::Live(answer) => Pin::new(&mut **answer).poll_next(context),
            Self::Taped(taped) => Pin::new(&mut **taped).poll_next(context),
            Self::Replayed(parts) => {
                Poll::Ready(parts.next().map(|part| Ok(StreamInvokeResponse { part: Some(part) })))
            }
        }
    }
}

/// How a stream ended.
pub(crate) enum Played {
    /// The provider said all of it.
    Whole(Box<Tape>),
    /// It was not answered, or not to its end.
    Failed(Error),
    /// The client left, and the rest took too long.
    Cut,
}

/// A whole answer.
pub(crate) struct Tape {
    pub(crate) content_type: String,
    /// All of its chunks; none if they are longer than was to be remembered.
    pub(crate) body: Option<Bytes>,
    pub(crate) accounting: Accounting,
}

/// What is done with a stream that has ended, before its client is told the end.
pub(crate) type Keep = Box<dyn FnOnce(Played) -> BoxFuture<'static, ()> + Send>;

/// A stream that is remembered. Dropped before its end (the client left), it is played on in the background within a bound.
pub(crate) struct Taped {
    /// Absent once it is over.
    playing: Option<Playing>,
    ending: Option<Ending>,
    tasks: TaskTracker,
    bound: Duration,
}

struct Playing {
    answer: Parts,
    content_type: String,
    /// Absent once it is too long.
    body: Option<BytesMut>,
    most: usize,
    keep: Keep,
}

/// The last part, held back until everything is kept.
struct Ending {
    kept: BoxFuture<'static, ()>,
    last: Option<Result<StreamInvokeResponse, Error>>,
}

impl Taped {
    /// Remembers `answer` up to `most` bytes; `keep` is told how it ended.
    pub(crate) fn new(answer: Parts, most: usize, keep: Keep, tasks: &TaskTracker, bound: Duration) -> Self {
        let playing = Playing { answer, content_type: String::new(), body: Some(BytesMut::new()), most, keep };
        Self { playing: Some(playing), ending: None, tasks: tasks.clone(), bound }
    }

    fn end(&mut self, played: impl FnOnce(&mut Playing) -> Played, last: Option<Result<StreamInvokeResponse, Error>>) {
        if let Some(mut playing) = self.playing.take() {
            let played = played(&mut playing);
            self.ending = Some(Ending { kept: (playing.keep)(played), last });
        }
    }
}

impl Playing {
    fn push(&mut self, chunk: &Bytes) {
        match &mut self.body {
            Some(body) if body.len() + chunk.len() <= self.most => body.extend_from_slice(chunk),
            _ => self.body = None,
        }
    }

    fn tape(&mut self, accounting: Accounting) -> Tape {
        let content_type = std::mem::take(&mut self.content_type);
        Tape { content_type, body: self.body.take().map(BytesMut::freeze), accounting }
    }
}

impl Stream for Taped {
    type Item = Result<StreamInvokeResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(ending) = &mut this.ending {
                std::task::ready!(ending.kept.as_mut().poll(context));
                let last = ending.last.take();
                this.ending = None;
                return Poll::Ready(last);
            }
            let Some(playing) = &mut this.playing else { return Poll::Ready(None) };
            match std::task::ready!(Pin::new(&mut playing.answer).poll_next(context)) {
                Some(Ok(StreamInvokeResponse { part: Some(Part::Accounting(accounting)) })) => {
                    let last = StreamInvokeResponse { part: Some(Part::Accounting(accounting.clone())) };
                    this.end(|playing| Played::Whole(Box::new(playing.tape(accounting))), Some(Ok(last)));
                }
                Some(Ok(response)) => {
                    match &response.part {
                        Some(Part::Start(StreamStart { content_type, .. })) => {
                            playing.content_type.clone_from(content_type);
                        }
                        Some(Part::Chunk(chunk)) => playing.push(chunk),
                        _ => {}
                    }
                    return Poll::Ready(Some(Ok(response)));
                }
                Some(Err(error)) => {
                    let played = Played::Failed(error.clone());
                    this.end(|_| played, Some(Err(error)));
                }
                None => this.end(|_| Played::Cut, None),
            }
        }
    }
}

impl Drop for Taped {
    fn drop(&mut self) {
        let (playing, ending) = (self.playing.take(), self.ending.take());
        if playing.is_none() && ending.is_none() {
            return;
        }
        let (tasks, bound) = (self.tasks.clone(), self.bound);
        let mut rest = Self { playing, ending, tasks: tasks.clone(), bound };
        tasks.spawn(async move {
            let end = tokio::time::timeout(bound, async { while rest.next().await.is_some() {} });
            if end.await.is_err() {
                rest.end(|_| Played::Cut, None);
                if let Some(ending) = rest.ending.take() {
                    ending.kept.await;
                }
            }
        });
    }
}
