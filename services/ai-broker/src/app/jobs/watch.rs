//! Streams of how jobs stand: one look at Postgres for all that are watched here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::{Detail, Jobs, View};
use crate::storage::jobs::read::{self, Glance};
use crate::storage::jobs::{JobKey, state};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(200);
/// The most jobs in one look.
const MOST: usize = 1000;
/// A stream says that it is there at least this often.
const ALIVE: Duration = Duration::from_secs(15);

/// Who watches what.
pub(super) struct Watches {
    watched: Mutex<HashMap<JobKey, watch::Sender<Option<Glance>>>>,
    room: Arc<Semaphore>,
}

/// One who watches a job.
struct Watching {
    jobs: Arc<Jobs>,
    key: JobKey,
    detail: Detail,
    glances: watch::Receiver<Option<Glance>>,
    over: bool,
    _room: OwnedSemaphorePermit,
}

/// How a job stands, again and again.
pub(crate) type Watch = std::pin::Pin<Box<dyn Stream<Item = Result<View, Error>> + Send>>;

impl Watches {
    pub(super) fn new(most: usize) -> Self {
        Self { watched: Mutex::default(), room: Arc::new(Semaphore::new(most)) }
    }

    fn begin(&self, key: JobKey) -> watch::Receiver<Option<Glance>> {
        self.watched.lock().entry(key).or_insert_with(|| watch::channel(None).0).subscribe()
    }

    /// Those that somebody watches still.
    fn keys(&self) -> Vec<JobKey> {
        let mut watched = self.watched.lock();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.keys().copied().collect()
    }

    fn tell(&self, glances: &[Glance]) {
        let watched = self.watched.lock();
        for glance in glances {
            if let Some(sender) = watched.get(&JobKey::new(glance.organization_id, glance.job_id)) {
                sender.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(glance);
                    *known = Some(*glance);
                    changed
                });
            }
        }
    }
}

impl Jobs {
    /// The job now, and whenever something about it changes, until it has ended.
    ///
    /// # Errors
    /// There is none, or too many are watched.
    pub(crate) async fn watch(self: &Arc<Self>, key: JobKey, detail: Detail) -> Result<Watch, Error> {
        let room = Arc::clone(&self.watches.room).try_acquire_owned().map_err(|_| {
            Error::new(ErrorReason::Overloaded, "too many jobs are watched").retry_after(Duration::from_secs(5))
        })?;
        let glances = self.watches.begin(key);
        let first = self.get(key, detail).await?;
        let over = first.row.state >= state::COMPLETE;
        let watching = Watching { jobs: Arc::clone(self), key, detail, glances, over, _room: room };
        let rest = futures::stream::unfold(watching, Watching::next);
        Ok(Box::pin(futures::StreamExt::chain(futures::stream::once(async { Ok(first) }), rest)))
    }

    /// Looks for those who watch, until the shutdown.
    pub(super) async fn feed_watches(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            for keys in self.watches.keys().chunks(MOST) {
                if let Ok(glances) = self.database.bounded(self.glance(keys)).await {
                    self.watches.tell(&glances);
                }
            }
        }
    }

    async fn glance(&self, keys: &[JobKey]) -> Result<Vec<Glance>, DatabaseError> {
        let mut tx = self.database.begin().await?;
        let glances = read::glance(&mut tx, keys).await?;
        tx.rollback().await?;
        Ok(glances)
    }
}

impl Watching {
    async fn next(mut self) -> Option<(Result<View, Error>, Self)> {
        if self.over {
            return None;
        }
        let stop = self.jobs.stop.clone();
        tokio::select! {
            changed = tokio::time::timeout(ALIVE, self.glances.changed()) => {
                if matches!(changed, Ok(Err(_))) {
                    return None;
                }
            }
            () = stop.cancelled() => {
                self.over = true;
                return Some((Err(Error::unavailable("ai-broker", "shutting down")), self));
            }
        }
        let view = self.jobs.get(self.key, self.detail).await;
        self.over = view.as_ref().map_or(true, |view| view.row.state >= state::COMPLETE);
        Some((view, self))
    }
}
