//! What comes in a burst is passed on together: each part costs every hop to the client a turn.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

/// In a burst what comes is passed on once in so long. The first part and what comes at the pace of a model's tokens never wait.
const BURST: Duration = Duration::from_millis(1);

/// Keeps what comes close behind what was passed on, for what comes with it.
#[derive(Default)]
pub(crate) struct Burst {
    /// When something was passed on last.
    passed: Option<Instant>,
    kept: Gathered,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Burst {
    /// What was kept, as soon as it has been kept for long enough.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Gathered> {
        if let Some(pause) = self.pause.as_mut().filter(|_| self.kept.len() > 0) {
            std::task::ready!(pause.as_mut().poll(context));
        }
        Poll::Ready(std::mem::take(&mut self.kept))
    }

    /// Passes something on, or keeps it while the last part is too close.
    pub(crate) fn hold(&mut self, gathered: Gathered, context: &mut Context<'_>) -> Poll<Gathered> {
        let now = Instant::now();
        let next = self.passed.map(|passed| passed + BURST).filter(|next| *next > now);
        let Some(next) = next else {
            self.passed = Some(now);
            return Poll::Ready(gathered);
        };
        let next = tokio::time::Instant::from_std(next);
        match &mut self.pause {
            Some(pause) => pause.as_mut().reset(next),
            pause @ None => *pause = Some(Box::pin(tokio::time::sleep_until(next))),
        }
        self.kept = gathered;
        self.poll(context)
    }
}

/// Chunks that are passed on together: the first as it is, a copy only from the second on.
#[derive(Default)]
pub(crate) struct Gathered {
    first: Bytes,
    more: BytesMut,
}

impl Gathered {
    pub(crate) fn add(&mut self, bytes: Bytes) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = bytes;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    pub(crate) fn bytes(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn chunk(bytes: &'static [u8]) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.add(Bytes::from_static(bytes));
        gathered
    }

    #[tokio::test]
    async fn what_comes_in_a_burst_is_kept_for_what_comes_with_it() {
        let mut burst = Burst::default();
        let passed = poll_fn(|context| burst.hold(chunk(b"first"), context)).await;
        assert_eq!(&passed.bytes()[..], b"first");

        let soon = Instant::now() + Duration::from_millis(20);
        burst.passed = Some(soon);
        let mut kept = Some(chunk(b"second"));
        let passed = poll_fn(|context| match kept.take() {
            Some(kept) => burst.hold(kept, context),
            None => burst.poll(context),
        });
        assert_eq!(&passed.await.bytes()[..], b"second");
        assert!(Instant::now() >= soon + BURST, "not before its time");
        assert_eq!(poll_fn(|context| burst.poll(context)).await.len(), 0, "and once");

        burst.passed = Instant::now().checked_sub(BURST);
        let passed = poll_fn(|context| burst.hold(chunk(b"third"), context)).await;
        assert_eq!(&passed.bytes()[..], b"third", "the pace of tokens is not held up");
    }
}
