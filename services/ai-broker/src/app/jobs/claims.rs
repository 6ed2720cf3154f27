//! Taking jobs that are ready, as long as there is room for them.
//!
//! Whoever writes takes along: a new job is stored as taken where there is room and nobody waits, and what has ended is written
//! with the same statement that takes the next into its room. What is left for the loop here is to look now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Jobs;
use super::slots::Slot;
use crate::storage::jobs::claim::{self, Claimed};

/// The most that are taken at once.
pub(super) const MOST: usize = 500;
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
            let Some(slots) = self.room().await else { return };
            let most = slots.permits();
            let taken = claim::claim(self.database.pool(), most, self.options.lease);
            let taken = self.database.bounded(taken).await;
            let pause = match taken {
                Ok(claimed) => {
                    let all = claimed.len() < most;
                    self.backlog.store(!all, Ordering::Relaxed);
                    self.begin(claimed, Some(slots));
                    if all { self.options.poll } else { Duration::ZERO }
                }
                Err(_) => PAUSE,
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    /// Whether jobs may be taken now.
    pub(super) fn takes(&self) -> bool {
        !self.stop.is_cancelled() && !self.broker.load.defers_jobs()
    }

    /// Whether more were ready than there was room for, when this was last seen, and may be taken now.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) && self.takes()
    }

    /// Works on what was taken into this room.
    pub(super) fn begin(self: &Arc<Self>, claimed: Vec<Claimed>, room: Option<Slot>) {
        let Some(mut room) = room else { return };
        self.metrics.claimed.increment(claimed.len() as u64);
        for one in claimed {
            let Some(slot) = room.split() else { break };
            let jobs = Arc::clone(self);
            self.tasks.spawn(async move { jobs.work(one, slot).await });
        }
    }

    /// The room there is, once there is some; none after the shutdown.
    async fn room(&self) -> Option<Slot> {
        let first = tokio::select! {
            first = Arc::clone(&self.slots).acquire_owned() => first.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let mut slots = Slot::new(first);
        slots.grow(&self.slots, MOST);
        Some(slots)
    }
}
