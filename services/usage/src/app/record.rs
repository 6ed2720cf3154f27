//! Recording: a caller's events are queued for the writer, and answered once they are durable.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use weir_types::Clock;

use super::Feed;
use super::writer::{Pace, Writer};
use crate::config::{Config, MAX_EVENTS};
use crate::domain::{Disposition, Entry, Event, Horizon, Invalid, validate};
use crate::error::Error;
use crate::storage::Store;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was valid.
    Taken(Disposition),
    /// It was not.
    Invalid(Invalid),
}

/// The entries of one caller, waiting for the writer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Result<Vec<Disposition>, Error>>,
    /// Room in the queue, given back when the call is answered or dropped.
    pub(super) room: OwnedSemaphorePermit,
    pub(super) queued_at: Instant,
}

/// Takes events. Clones share one queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Call>,
    room: Arc<Semaphore>,
    capacity: usize,
    pace: Arc<Pace>,
    closing: CancellationToken,
    clock: Arc<dyn Clock>,
    horizon: Horizon,
    counters: Arc<Counters>,
}

impl Recorder {
    /// A recorder, and the writer that has to run for it.
    #[must_use]
    pub fn new(config: &Config, store: Store, feed: Feed, clock: Arc<dyn Clock>) -> (Self, Writer) {
        // Each call holds room for at least one event, so there are never more calls than that.
        let (queue, calls) = mpsc::channel(config.recording.queue);
        let pace = Arc::new(Pace::default());
        let closing = CancellationToken::new();
        let writer = Writer::new(config.recording.clone(), calls, closing.clone(), store, feed, Arc::clone(&pace));
        let recorder = Self {
            queue,
            room: Arc::new(Semaphore::new(config.recording.queue)),
            capacity: config.recording.queue,
            pace,
            closing,
            clock,
            horizon: config.horizon(),
            counters: Arc::new(Counters::new()),
        };
        (recorder, writer)
    }

    /// Records `events` and answers each, in order, when all of them are durable. What could not be read as an event
    /// at all comes as its error, and is answered by it.
    ///
    /// # Errors
    /// Then nothing is known to be recorded; sending the same events again is safe.
    pub async fn record(
        &self,
        events: Vec<Result<Event, Invalid>>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Answer>, Error> {
        if events.len() > MAX_EVENTS {
            return Err(Error::TooManyEvents(events.len()));
        }
        let (entries, refusals) = self.prepare(events);
        let dispositions = if entries.is_empty() { Vec::new() } else { self.enqueue(entries, deadline).await? };
        let mut dispositions = dispositions.into_iter();
        let answers: Vec<Answer> = refusals
            .into_iter()
            .filter_map(|refusal| match refusal {
                Some(invalid) => Some(Answer::Invalid(invalid)),
                None => dispositions.next().map(Answer::Taken),
            })
            .collect();
        self.counters.count(&answers);
        Ok(answers)
    }

    /// Takes no more events. The writer ends when it has recorded those that wait.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// The valid events, and for each of `events` why it is refused, if it is.
    fn prepare(&self, events: Vec<Result<Event, Invalid>>) -> (Vec<Entry>, Vec<Option<Invalid>>) {
        let now: DateTime<Utc> = self.clock.now();
        let mut entries = Vec::with_capacity(events.len());
        let mut refusals = Vec::with_capacity(events.len());
        for event in events {
            let checked = event.and_then(|event| validate(&event, now, &self.horizon).map(|()| event));
            refusals.push(match checked {
                Ok(event) => {
                    entries.push(Entry::new(event));
                    None
                }
                Err(invalid) => Some(invalid),
            });
        }
        (entries, refusals)
    }

    async fn enqueue(&self, entries: Vec<Entry>, deadline: Option<Instant>) -> Result<Vec<Disposition>, Error> {
        if self.closing.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let count = u32::try_from(entries.len()).map_err(|_| Error::TooManyEvents(entries.len()))?;
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(count) else {
            return Err(Error::Overloaded { retry_after: self.pace.time_for(self.capacity) });
        };
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Call { entries, reply, room, queued_at: Instant::now() })
            .map_err(|_| Error::ShuttingDown)?;
        self.counters.waiting.set(waiting(self.capacity - self.room.available_permits()));
        // When the deadline passes, `answer` is dropped, and the writer skips what it has not begun.
        let answered = match deadline {
            Some(deadline) => timeout_at(deadline, answer).await.map_err(|_| Error::DeadlineExceeded)?,
            None => answer.await,
        };
        answered.map_err(|_| Error::ShuttingDown)?
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

fn waiting(events: usize) -> f64 {
    u32::try_from(events).map_or(f64::INFINITY, f64::from)
}

/// How long to wait at least and at most before trying again.
pub(super) const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

struct Counters {
    recorded: Counter,
    duplicate: Counter,
    superseded: Counter,
    duplicate_estimate: Counter,
    rejected: Counter,
    waiting: Gauge,
}

impl Counters {
    fn new() -> Self {
        let events = |disposition: &'static str| counter!("weir_usage_events_total", "disposition" => disposition);
        Self {
            recorded: events("recorded"),
            duplicate: events("duplicate"),
            superseded: events("superseded"),
            duplicate_estimate: events("duplicate_estimate"),
            rejected: events("rejected"),
            waiting: gauge!("weir_usage_queue_events"),
        }
    }

    fn count(&self, answers: &[Answer]) {
        let mut recorded = 0;
        for answer in answers {
            match answer {
                Answer::Taken(Disposition::Recorded) => recorded += 1,
                Answer::Taken(Disposition::Duplicate) => self.duplicate.increment(1),
                Answer::Taken(Disposition::Superseded) => self.superseded.increment(1),
                Answer::Taken(Disposition::DuplicateEstimate(_)) => self.duplicate_estimate.increment(1),
                Answer::Taken(Disposition::IdReused) | Answer::Invalid(_) => self.rejected.increment(1),
            }
        }
        self.recorded.increment(recorded);
    }
}
