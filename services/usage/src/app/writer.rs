//! Group commit: calls that arrive while a transaction is under way share the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Feed;
use super::record::{Call, RETRY_BOUNDS};
use crate::config::Recording;
use crate::domain::{Disposition, Entry};
use crate::error::Error;
use crate::storage::Store;
use crate::storage::books::{self, Done, Failure};

/// A lost race is tried again at once, this often.
const ATTEMPTS: usize = 3;

/// Takes calls off the queue and records them, one transaction at a time: positions are given out in commit order,
/// so a second transaction could only wait for the first.
pub struct Writer {
    config: Recording,
    calls: mpsc::Receiver<Call>,
    closing: CancellationToken,
    /// A call that did not fit into the batch before.
    held: Option<Call>,
    store: Store,
    feed: Feed,
    pace: Arc<Pace>,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        config: Recording,
        calls: mpsc::Receiver<Call>,
        closing: CancellationToken,
        store: Store,
        feed: Feed,
        pace: Arc<Pace>,
    ) -> Self {
        Self { config, calls, closing, held: None, store, feed, pace, metrics: Metrics::new() }
    }

    /// Records until the queue is closed and empty.
    pub async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.record(batch).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Vec<Call>> {
        let first = match self.held.take() {
            Some(call) => call,
            None => self.next_call().await?,
        };
        let linger_until = first.queued_at + self.config.linger;
        let mut events = first.entries.len();
        let mut batch = vec![first];
        loop {
            let next = match self.calls.try_recv() {
                Ok(call) => call,
                Err(_) if events >= self.config.linger_below || self.closing.is_cancelled() => break,
                Err(_) => match timeout_at(linger_until, self.calls.recv()).await {
                    Ok(Some(call)) => call,
                    Ok(None) | Err(_) => break,
                },
            };
            if events + next.entries.len() > self.config.max_batch {
                self.held = Some(next);
                break;
            }
            events += next.entries.len();
            batch.push(next);
        }
        Some(batch)
    }

    async fn next_call(&mut self) -> Option<Call> {
        tokio::select! {
            call = self.calls.recv() => return call,
            () = self.closing.cancelled() => self.calls.close(),
        }
        self.calls.recv().await
    }

    async fn record(&self, mut batch: Vec<Call>) {
        // Whoever has gone does not learn the outcome and sends the events again: recording them now would be the work
        // of a server that is too late already.
        batch.retain(|call| !call.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        match self.commit(&batch).await {
            Ok(dispositions) => answer(batch, dispositions),
            // Something in there can't be stored. Only the call that brought it shall fail.
            Err(error) if batch.len() > 1 && is_refusal(&error) => {
                for call in batch {
                    match self.commit(std::slice::from_ref(&call)).await {
                        Ok(dispositions) => answer(vec![call], dispositions),
                        Err(error) => fail(vec![call], &error),
                    }
                }
            }
            Err(error) => fail(batch, &error),
        }
    }

    async fn commit(&self, batch: &[Call]) -> Result<Vec<Disposition>, Error> {
        let started = Instant::now();
        let entries: Vec<&Entry> = batch.iter().flat_map(|call| &call.entries).collect();
        let recorded = timeout(self.config.commit_timeout, self.attempt(&entries)).await;
        let done = recorded.map_err(|_| Error::CommitTimeout)??;
        let took = started.elapsed();
        self.pace.observe(entries.len(), took);
        self.metrics.commit_seconds.record(took);
        self.metrics.batch_events.record(u32::try_from(entries.len()).map_or(f64::INFINITY, f64::from));
        if let Some(head) = done.head {
            self.feed.announce(head);
        }
        Ok(done.dispositions)
    }

    async fn attempt(&self, entries: &[&Entry]) -> Result<Done, Failure> {
        let mut look_up = false;
        let mut attempts = 1..=ATTEMPTS;
        loop {
            let last = attempts.next().is_none_or(|attempt| attempt == ATTEMPTS);
            let result = if look_up {
                books::record_any(&self.store, entries).await
            } else {
                books::record_new(&self.store, entries).await
            };
            match result {
                Err(Failure::Known) if !look_up => {
                    self.metrics.looked_up.increment(1);
                    look_up = true;
                }
                Err(Failure::Database(weir_database::Error::Serialization)) if !last => {}
                result => return result,
            }
        }
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Overflow(_) | Error::Database(weir_database::Error::Internal(_) | weir_database::Error::Conflict { .. })
    )
}

fn answer(batch: Vec<Call>, dispositions: Vec<Disposition>) {
    let mut dispositions = dispositions.into_iter();
    for call in batch {
        let own = dispositions.by_ref().take(call.entries.len()).collect();
        drop(call.room);
        // A caller that has gone sends again, and is answered DUPLICATE.
        let _ = call.reply.send(Ok(own));
    }
}

fn fail(batch: Vec<Call>, error: &Error) {
    for call in batch {
        let _ = call.reply.send(Err(error.clone()));
    }
}

/// How long recording an event took lately.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    fn observe(&self, events: usize, took: Duration) {
        let nanos = took.as_nanos() / u128::try_from(events.max(1)).unwrap_or(1);
        self.0.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long recording as many events takes, within bounds that make sense to wait.
    pub(super) fn time_for(&self, events: usize) -> Duration {
        let nanos = self.0.load(Ordering::Relaxed).saturating_mul(u64::try_from(events).unwrap_or(u64::MAX));
        Duration::from_nanos(nanos).clamp(RETRY_BOUNDS.0, RETRY_BOUNDS.1)
    }
}

struct Metrics {
    commit_seconds: Histogram,
    batch_events: Histogram,
    looked_up: Counter,
}

impl Metrics {
    fn new() -> Self {
        Self {
            commit_seconds: histogram!("weir_usage_commit_seconds"),
            batch_events: histogram!("weir_usage_batch_events"),
            looked_up: counter!("weir_usage_batches_looked_up_total"),
        }
    }
}
