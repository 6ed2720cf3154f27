//! Carries revocations from the database to every watcher of this replica, whichever replica made them.
//!
//! `LISTEN` says when there is something to read; a short poll finds it too, should the notification be lost or impossible
//! (PgBouncer in transaction mode). Rows are read by a sequence that follows the order of commits, so none is skipped.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::Stream;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::Clock;

use crate::config;
use crate::domain::Revocation;
use crate::error::{Error, Result};
use crate::storage::revocations;

/// What a watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Something must no longer be accepted.
    Revoked(Arc<Revocation>),
    /// The stream is alive, and every revocation that was acknowledged to its caller before this time has been sent. The time
    /// stands still while the database is away.
    Alive(DateTime<Utc>),
}

/// The feed of this replica.
pub(crate) struct RevocationFeed {
    database: Database,
    clock: Arc<dyn Clock>,
    config: config::Revocations,
    known: Mutex<Known>,
    sender: broadcast::Sender<Arc<Revocation>>,
    wake: Notify,
    shutdown: CancellationToken,
}

/// What has been read, as long as it matters.
#[derive(Default)]
struct Known {
    in_force: HashSet<Arc<Revocation>>,
    /// In force later: rotated keys within their overlap.
    pending: Vec<Revocation>,
    last_sequence: i64,
    /// The time just before the last reading that succeeded.
    read_up_to: Option<DateTime<Utc>>,
}

/// What one look at the database found.
struct Reading {
    started: DateTime<Utc>,
    full: bool,
    rows: Vec<(i64, Revocation)>,
}

impl RevocationFeed {
    /// A feed that has not read anything yet. Its streams end when `shutdown` is cancelled.
    #[must_use]
    pub(crate) fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        config: config::Revocations,
        shutdown: CancellationToken,
    ) -> Self {
        let (sender, _) = broadcast::channel(usize::try_from(config.backlog).unwrap_or(1).max(1));
        Self { database, clock, config, known: Mutex::default(), sender, wake: Notify::new(), shutdown }
    }

    /// Reads, listens and reads again, until shutdown.
    pub(crate) async fn run(&self) {
        let work = async { tokio::join!(Box::pin(self.listen()), Box::pin(self.follow())) };
        self.shutdown.run_until_cancelled(work).await;
    }

    /// Whether everything that matters has been read once.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.known().read_up_to.is_some()
    }

    /// Everything that can still matter, then what comes, with signs of life between.
    ///
    /// # Errors
    /// When nothing has been read from the database yet. The stream itself ends with an error when its receiver doesn't keep
    /// up: it is not buffered for without bound.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<impl Stream<Item = Result<Signal>> + Send + use<>> {
        let known = self.known();
        let read_up_to = known.read_up_to.ok_or(Error::NotReady("revocations"))?;
        // Subscribed while nobody can publish: what is not in this list comes through the channel.
        let receiver = self.sender.subscribe();
        let mut backlog: VecDeque<_> = known.in_force.iter().cloned().map(Signal::Revoked).collect();
        drop(known);
        backlog.push_back(Signal::Alive(read_up_to));
        let mut heartbeat = tokio::time::interval(self.config.heartbeat_every);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        heartbeat.reset();
        let watcher = Watcher { feed: Arc::clone(self), backlog, receiver, heartbeat };
        Ok(futures::stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            let next = watcher.next().await;
            let goes_on = next.is_ok();
            Some((next, goes_on.then_some(watcher)))
        }))
    }

    /// Reads now: this replica has written a revocation.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    async fn follow(&self) {
        let mut full = true;
        loop {
            let reading = self.read(full).await.ok();
            // After an outage everything is read again: a database that failed over may have lost rows and given their
            // numbers to others.
            full = reading.is_none();
            self.publish(reading);
            let pause = self.config.poll_every.min(self.until_pending());
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    /// Reads what is new, or everything that matters.
    async fn read(&self, full: bool) -> Result<Reading> {
        let started = self.clock.now();
        let after = if full { 0 } else { self.known().last_sequence };
        let mut tx = self.database.begin().await?;
        let rows = revocations::after(&mut tx, after, started).await?;
        // Nothing was written; ends the transaction now rather than at the connection's next use.
        tx.rollback().await.map_err(weir_database::Error::from)?;
        Ok(Reading { started, full, rows })
    }

    /// Publishes what is in force: what was read now, and what was read before and was not in force then.
    fn publish(&self, reading: Option<Reading>) {
        let mut known = self.known();
        let read_up_to = reading.as_ref().map(|reading| reading.started);
        if let Some(reading) = reading {
            if reading.full {
                known.pending.clear();
                known.last_sequence = 0;
            }
            for (sequence, revocation) in reading.rows {
                known.last_sequence = sequence;
                known.pending.push(revocation);
            }
        }
        let now = self.clock.now();
        known.in_force.retain(|revocation| revocation.matters_until > now);
        let (due, pending) = std::mem::take(&mut known.pending).into_iter().partition(|r| r.holds(now));
        known.pending = pending;
        for revocation in Vec::into_iter(due) {
            let revocation = Arc::new(revocation);
            if known.in_force.insert(Arc::clone(&revocation)) {
                // Nobody watching is no error.
                let _ = self.sender.send(revocation);
            }
        }
        known.read_up_to = read_up_to.or(known.read_up_to);
    }

    fn until_pending(&self) -> Duration {
        let next = self.known().pending.iter().map(|revocation| revocation.effective).min();
        next.map_or(Duration::MAX, |next| (next - self.clock.now()).to_std().unwrap_or(Duration::ZERO))
    }

    /// Keeps a connection that hears notifications.
    async fn listen(&self) {
        if !self.config.listen {
            return;
        }
        loop {
            if let Err(error) = self.listen_once().await {
                tracing::warn!(error = %weir_database::Error::from(error), "not hearing of revocations; polling meanwhile");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn listen_once(&self) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(self.database.pool()).await?;
        listener.listen(revocations::CHANNEL).await?;
        loop {
            // None: the connection was lost and is there again; what was missed meanwhile is read like any other.
            listener.try_recv().await?;
            self.wake.notify_one();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RevocationFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationFeed").field("watchers", &self.sender.receiver_count()).finish_non_exhaustive()
    }
}

struct Watcher {
    feed: Arc<RevocationFeed>,
    backlog: VecDeque<Signal>,
    receiver: broadcast::Receiver<Arc<Revocation>>,
    heartbeat: tokio::time::Interval,
}

impl Watcher {
    async fn next(&mut self) -> Result<Signal> {
        if let Some(signal) = self.backlog.pop_front() {
            return Ok(signal);
        }
        tokio::select! {
            biased;
            () = self.feed.shutdown.cancelled() => Err(Error::Stopping),
            received = self.receiver.recv() => match received {
                Ok(revocation) => Ok(Signal::Revoked(revocation)),
                Err(RecvError::Lagged(missed)) => Err(fell_behind(missed)),
                Err(RecvError::Closed) => Err(Error::Stopping),
            },
            _ = self.heartbeat.tick() => {
                let read_up_to = self.feed.known().read_up_to.unwrap_or_default();
                // What was published up to that time goes first.
                match self.receiver.try_recv() {
                    Ok(revocation) => Ok(Signal::Revoked(revocation)),
                    Err(TryRecvError::Empty) => Ok(Signal::Alive(read_up_to)),
                    Err(TryRecvError::Lagged(missed)) => Err(fell_behind(missed)),
                    Err(TryRecvError::Closed) => Err(Error::Stopping),
                }
            }
        }
    }
}

fn fell_behind(missed: u64) -> Error {
    metrics::counter!("weir_auth_watchers_dropped_total").increment(1);
    Error::FellBehind(missed)
}
