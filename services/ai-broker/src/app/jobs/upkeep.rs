//! What somebody has to do now and then: jobs become due, brokers get lost, old jobs are forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_database::Error;

use super::Jobs;
use crate::storage::jobs::keep;

/// How often the jobs are counted.
const COUNT: Duration = Duration::from_secs(10);
/// How often old ones are forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// The most batches of old ones at once.
const BATCHES: usize = 20;

impl Jobs {
    /// Looks after them until the shutdown.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let (mut counted, mut reclaimed, mut forgot) = (None, None, None);
        while self.stop.run_until_cancelled(tokio::time::sleep(self.options.poll)).await.is_some() {
            let due = |last: &mut Option<Instant>, every: Duration| {
                let due = last.is_none_or(|last| last.elapsed() >= every);
                if due {
                    *last = Some(Instant::now());
                }
                due
            };
            let reclaim = due(&mut reclaimed, self.options.lease / 5);
            // What fails is logged where it fails, and done at the next time.
            drop(self.database.bounded(self.promote(reclaim)).await);
            if due(&mut counted, COUNT) {
                drop(self.database.bounded(self.count()).await);
            }
            if due(&mut forgot, FORGET) {
                for _ in 0..BATCHES {
                    if !self.database.bounded(self.forget()).await.is_ok_and(|forgotten| forgotten > 0) {
                        break;
                    }
                }
            }
        }
    }

    async fn promote(&self, reclaim: bool) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        let mut ready = keep::promote(&mut tx).await?;
        if reclaim {
            let lost = keep::reclaim(&mut tx).await?;
            if lost > 0 {
                tracing::warn!(jobs = lost, "brokers were silent for too long: their jobs go on elsewhere");
                self.metrics.reclaimed.increment(lost);
            }
            ready += lost;
        }
        tx.commit().await?;
        if ready > 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        let (counts, oldest) = keep::census(&mut tx).await?;
        tx.rollback().await?;
        self.metrics.census(counts, oldest);
        Ok(())
    }

    async fn forget(&self) -> Result<u64, Error> {
        let mut tx = self.database.begin().await?;
        let forgotten = keep::forget(&mut tx, self.options.retention).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}
