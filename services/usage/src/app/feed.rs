//! The feed's head as this process knows it: moved by its own commits at once, by other replicas' when polled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::storage::{Error, Store, feed};

/// Tells watchers how far the feed is. Clones share it.
///
/// Polled rather than by LISTEN, which needs a session of its own and so would not work behind PgBouncer, and whose
/// NOTIFY takes a lock of the whole server in every commit.
#[derive(Clone)]
pub struct Feed {
    head: Arc<watch::Sender<i64>>,
    store: Store,
}

impl Feed {
    /// A feed that nobody watches yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { head: Arc::new(watch::Sender::new(0)), store }
    }

    /// The newest durable position, from the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn head(&self) -> Result<i64, Error> {
        let unit = self.store.begin().await?;
        let head = feed::head(&unit).await?;
        unit.commit().await?;
        self.announce(head);
        Ok(head)
    }

    /// Looks for other replicas' changes as long as somebody watches, until shutdown.
    pub async fn run(self, every: Duration, shutdown: CancellationToken) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.head.receiver_count() > 0 {
                // An outage is logged where it is found, and the next tick tries again.
                let _ = self.head().await;
            }
        }
    }

    pub(super) fn announce(&self, head: i64) {
        self.head.send_if_modified(|known| {
            let newer = head > *known;
            *known = head.max(*known);
            newer
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }
}
