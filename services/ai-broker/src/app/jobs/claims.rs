//! Taking jobs that are ready, as long as there is room for them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;
use weir_database::Error;

use super::Jobs;
use super::work::Slot;
use crate::storage::jobs::claim::{self, Claimed};

/// The most that are taken at once.
const MOST: usize = 500;
/// After Postgres did not answer.
const PAUSE: Duration = Duration::from_millis(500);

impl Jobs {
    /// Takes jobs until the shutdown. What it was about to take then is worked on, which hands it back: until then, as `_taking` says,
    /// something is under way.
    pub(super) async fn take_jobs(self: Arc<Self>, _taking: TaskTrackerToken) {
        while !self.stop.is_cancelled() {
            if self.broker.load.defers_jobs() {
                if self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    return;
                }
                continue;
            }
            let Some(mut slots) = self.room().await else { return };
            let most = slots.permits().min(MOST);
            let taken = self.database.bounded(self.claim(most)).await;
            let pause = match taken {
                Ok(claimed) => {
                    let all = claimed.len() < most;
                    self.metrics.claimed.increment(claimed.len() as u64);
                    for one in claimed {
                        let Some(slot) = slots.split() else { break };
                        let jobs = Arc::clone(&self);
                        self.tasks.spawn(async move { jobs.work(one, slot).await });
                    }
                    if all { self.options.poll } else { Duration::ZERO }
                }
                Err(_) => PAUSE,
            };
            drop(slots);
            if !pause.is_zero() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    /// All the room there is, once there is some; none after the shutdown.
    async fn room(&self) -> Option<Slot> {
        let first = tokio::select! {
            first = Arc::clone(&self.slots).acquire_owned() => first.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let mut slots = Slot::new(first);
        slots.grow(&self.slots);
        Some(slots)
    }

    async fn claim(&self, most: usize) -> Result<Vec<Claimed>, Error> {
        let mut tx = self.database.begin().await?;
        let claimed = claim::claim(&mut tx, most, self.options.lease).await?;
        tx.commit().await?;
        Ok(claimed)
    }
}
