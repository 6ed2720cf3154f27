//! An answer that is sent piece by piece: its pieces are laid out once, mostly in one piece of memory, and sent in their order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::body::Broken;
use crate::books::Entry;
use crate::connection::Link;
use crate::directive::Break;
use crate::text::VOCABULARY;

/// All that a stream will say.
pub(crate) struct Script {
    /// In the order in which they are sent.
    pub(crate) segments: Vec<Segment>,
    /// Sent when the stream shall fail; nothing where the protocol has no such event.
    pub(crate) failure: Bytes,
    /// Sent when the stream shall be spoilt.
    pub(crate) garbage: Bytes,
}

/// A part of a script.
pub(crate) enum Segment {
    /// Sent at once after what stands before it.
    Event(Bytes),
    /// One token a piece, in turn from each lane.
    Tokens {
        /// Of each lane.
        count: u64,
        lanes: Vec<Lane>,
    },
    /// Pieces that each differ, made when they are due; `tokens` is what each counts for.
    Made { count: u64, tokens: u64, make: Box<dyn Fn(u64) -> Bytes + Send + Sync> },
}

/// The tokens of one choice or block.
pub(crate) struct Lane {
    pub(crate) first: Bytes,
    /// By place in [`VOCABULARY`], as far as the answer needs them.
    pub(crate) words: Vec<Bytes>,
    pub(crate) last: Bytes,
}

impl Segment {
    fn pieces(&self) -> u64 {
        match self {
            Self::Event(_) => 1,
            Self::Tokens { count, lanes } => count * lanes.len() as u64,
            Self::Made { count, .. } => *count,
        }
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Event(_))
    }

    fn piece(&self, nth: u64) -> Bytes {
        match self {
            Self::Event(bytes) => bytes.clone(),
            Self::Tokens { count, lanes } => {
                let lane = &lanes[usize::try_from(nth % lanes.len() as u64).unwrap_or(0)];
                match nth / lanes.len() as u64 {
                    0 => lane.first.clone(),
                    last if last + 1 == *count => lane.last.clone(),
                    token => lane.words[usize::try_from(token % VOCABULARY.len() as u64).unwrap_or(0)].clone(),
                }
            }
            Self::Made { make, .. } => make(nth),
        }
    }

    /// How many pieces are sent together, as far as pace goes.
    fn width(&self) -> u64 {
        match self {
            Self::Tokens { lanes, .. } => lanes.len().max(1) as u64,
            Self::Event(_) | Self::Made { .. } => 1,
        }
    }

    fn tokens(&self) -> u64 {
        match self {
            Self::Event(_) => 0,
            Self::Tokens { .. } => 1,
            Self::Made { tokens, .. } => *tokens,
        }
    }
}

/// How a stream is sent.
pub(crate) struct Pace {
    /// Between two pieces.
    pub(crate) interval: Duration,
    /// Without an interval: may one write carry several pieces?
    pub(crate) coalesce: bool,
    pub(crate) break_after: Option<(u64, Break)>,
}

/// A stream under way.
pub(crate) struct Stream {
    script: Script,
    /// The present segment and the piece of it.
    at: (usize, u64),
    /// The segments between these have pieces that are paced; a stream breaks off from the first of them on.
    first_paced: usize,
    last_paced: usize,
    sent: u64,
    /// Rounds of pieces that were sent, which due times are counted by.
    rounds: u64,
    pace: Pace,
    start: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    over: bool,
    reset: bool,
    entry: Entry,
    link: Arc<Link>,
}

impl Stream {
    /// Sends a script. With `reset`, the connection is reset when the head has been sent.
    pub(crate) fn new(script: Script, pace: Pace, entry: Entry, link: Arc<Link>, reset: bool) -> Self {
        let paced = |segment: &Segment| !segment.is_event() && segment.pieces() > 0;
        let end = script.segments.len();
        let first_paced = script.segments.iter().position(paced).unwrap_or(end);
        let last_paced = script.segments.iter().rposition(paced).unwrap_or(0);
        Self {
            script,
            at: (0, 0),
            first_paced,
            last_paced,
            sent: 0,
            rounds: 0,
            pace,
            start: Instant::now(),
            sleep: None,
            flushed: false,
            over: false,
            reset,
            entry,
            link,
        }
    }

    /// The next piece, when it is due.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.reset {
            return self.break_connection(cx, true);
        }
        self.skip_finished();
        let (index, nth) = self.at;
        let Some(segment) = self.script.segments.get(index) else {
            self.over = true;
            self.entry.finish();
            return Poll::Ready(None);
        };
        let (paced, width, tokens) = (!segment.is_event(), segment.width(), segment.tokens());
        let breakable = index >= self.first_paced;
        if let Some((_, kind)) =
            self.pace.break_after.filter(|&(after, _)| breakable && (self.sent >= after || index > self.last_paced))
        {
            return self.break_off(kind, cx);
        }
        if paced && self.sent > 0 && self.wait(cx).is_pending() {
            return Poll::Pending;
        }
        let piece = self.script.segments[index].piece(nth);
        self.at.1 += 1;
        if paced {
            self.sent += 1;
            self.rounds += u64::from((nth + 1) % width == 0);
            self.entry.produce(tokens);
        }
        self.skip_finished();
        if self.at.0 >= self.script.segments.len() {
            // Who has read the end may ask again at once.
            self.entry.hold(None);
        }
        Poll::Ready(Some(Ok(piece)))
    }

    fn skip_finished(&mut self) {
        while self.script.segments.get(self.at.0).is_some_and(|segment| self.at.1 >= segment.pieces()) {
            self.at = (self.at.0 + 1, 0);
        }
    }

    /// Waits until the next piece is due, or lets the one before be written by itself.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pace.interval.is_zero() {
            if self.pace.coalesce || std::mem::take(&mut self.flushed) {
                return Poll::Ready(());
            }
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Due times are counted from the start, so that late wake-ups do not add up.
        let due = self.start + self.pace.interval.saturating_mul(u32::try_from(self.rounds).unwrap_or(u32::MAX));
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }

    fn break_off(&mut self, kind: Break, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match kind {
            Break::Hang => Poll::Pending,
            Break::Cut => self.break_connection(cx, false),
            Break::Error if self.script.failure.is_empty() => self.break_connection(cx, false),
            Break::End => {
                self.over = true;
                Poll::Ready(None)
            }
            Break::Error => {
                self.over = true;
                Poll::Ready(Some(Ok(self.script.failure.clone())))
            }
            Break::Garbage => {
                self.pace.break_after = None;
                Poll::Ready(Some(Ok(self.script.garbage.clone())))
            }
        }
    }

    /// Lets hyper flush what it has, then breaks the connection.
    fn break_connection(&mut self, cx: &mut Context<'_>, reset: bool) -> Poll<Option<Result<Bytes, Broken>>> {
        if !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if reset {
            self.link.reset_on_close();
        }
        Poll::Ready(Some(Err(Broken)))
    }
}
