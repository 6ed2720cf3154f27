//! Carries changes of entitlements to every watcher of this replica, whichever replica made them.
//!
//! NOTIFY says when there is something to read, and a look at every heartbeat finds it too. Changes are numbered in the order
//! of their commits, so none is passed over.

use std::time::Duration;

use futures::Stream;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::OrganizationId;

use crate::config;
use crate::error::Result;
use crate::storage::{catalogues, subscriptions};

/// How far a slow watcher may fall behind before it is told to forget everything.
const BACKLOG: usize = 1_024;
/// More changes at once than this are told as one.
const MOST: i64 = 256;
const RECONNECT: Duration = Duration::from_secs(5);

/// What a watcher hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The entitlements of an organisation changed.
    Changed(OrganizationId, i64),
    /// Those of anybody may have changed.
    All(i64),
    /// Everything up to this change has been told. It doesn't come while the database can't be read.
    Heartbeat(i64),
}

/// The changes as this replica sees them.
pub(crate) struct EntitlementsWatch {
    database: Database,
    config: config::Entitlements,
    sender: broadcast::Sender<Signal>,
    wake: Notify,
    shutdown: CancellationToken,
}

impl EntitlementsWatch {
    /// A watch that sees nothing until it runs. Its streams end when `shutdown` is cancelled.
    #[must_use]
    pub(crate) fn new(database: Database, config: config::Entitlements, shutdown: CancellationToken) -> Self {
        Self { database, config, sender: broadcast::Sender::new(BACKLOG), wake: Notify::new(), shutdown }
    }

    /// Looks for changes until shutdown.
    pub(crate) async fn run(&self) {
        let work = async { tokio::join!(self.listen(), self.look()) };
        self.shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    /// Every change from now on. Begins with [`Signal::All`]: what changed while the watcher was not there is not known.
    pub(crate) fn watch(&self) -> impl Stream<Item = Signal> + Send + use<> {
        struct Watcher {
            receiver: broadcast::Receiver<Signal>,
            shutdown: CancellationToken,
            begun: bool,
        }
        let watcher = Watcher { receiver: self.sender.subscribe(), shutdown: self.shutdown.clone(), begun: false };
        futures::stream::unfold(watcher, |mut watcher| async {
            if !std::mem::replace(&mut watcher.begun, true) {
                return Some((Signal::All(0), watcher));
            }
            let signal = match watcher.shutdown.run_until_cancelled(watcher.receiver.recv()).await? {
                Ok(signal) => signal,
                Err(RecvError::Lagged(_)) => Signal::All(0),
                Err(RecvError::Closed) => return None,
            };
            Some((signal, watcher))
        })
    }

    async fn listen(&self) {
        if !self.config.listen {
            return;
        }
        loop {
            // The listener connects again by itself; what it can't heal is tried from the beginning.
            if let Ok(mut listener) = PgListener::connect_with(self.database.pool()).await
                && listener.listen(subscriptions::CHANNEL).await.is_ok()
            {
                // What changed until now was not listened to.
                self.wake.notify_one();
                while listener.recv().await.is_ok() {
                    self.wake.notify_one();
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn look(&self) {
        let mut beat = interval(self.config.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            let due = tokio::select! {
                _ = beat.tick() => true,
                () = self.wake.notified() => false,
            };
            // An outage is logged where it is found, and the next beat tries again.
            if let Ok(now) = self.tell(seen).await {
                seen = Some(now);
                if due {
                    self.send(Signal::Heartbeat(now));
                }
            }
        }
    }

    /// Tells what changed since the change `seen`, and answers the last one.
    async fn tell(&self, seen: Option<i64>) -> Result<i64> {
        let mut tx = self.database.begin().await?;
        let now = subscriptions::clock(&mut tx).await?;
        let Some(seen) = seen.filter(|seen| *seen <= now) else {
            // The first look, or a database that was set back.
            tx.rollback().await?;
            self.send(Signal::All(now));
            return Ok(now);
        };
        if now == seen {
            tx.rollback().await?;
            return Ok(now);
        }
        let all = catalogues::changed(&mut tx, seen).await?;
        let changed = subscriptions::changed(&mut tx, seen, MOST + 1).await?;
        tx.rollback().await?;
        let last = changed.last().map_or(now, |(_, version)| now.max(*version));
        if all || i64::try_from(changed.len()).unwrap_or(i64::MAX) > MOST {
            self.send(Signal::All(last));
            // With more changes than were read, the next look tells of the rest: too often is harmless.
            return Ok(if all { now } else { changed.last().map_or(now, |(_, version)| *version) });
        }
        for (organization, version) in changed {
            self.send(Signal::Changed(organization, version));
        }
        Ok(last)
    }

    fn send(&self, signal: Signal) {
        // Nobody watching is no error.
        let _ = self.sender.send(signal);
    }
}
