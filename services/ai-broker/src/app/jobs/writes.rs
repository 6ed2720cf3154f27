//! What becomes of jobs, many at once; and with the same statement the next ones are taken, into the room that becomes free.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;
use weir_database::Error;

use super::Jobs;
use super::batches::Batched;
use super::slots::Slot;
use crate::storage::jobs::claim::Claimed;
use crate::storage::jobs::transition::{self, Transition};

/// Between two attempts to write.
const PAUSE: Duration = Duration::from_millis(200);
/// How long is tried to write at the end. After it the job's lease ends, and another broker has it.
const LAST: Duration = Duration::from_secs(10);

/// What becomes of a job.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) next: Transition,
    /// The job's room, if it needs it no longer.
    pub(super) slot: Option<Slot>,
}

impl Jobs {
    /// Writes what comes of jobs, until no job is under way after the shutdown.
    pub(super) async fn write_batches(self: Arc<Self>, ended: Arc<Batched<Outcome, bool>>) {
        loop {
            let batch = tokio::select! {
                batch = ended.next() => batch,
                () = async { self.stop.cancelled().await; self.drained().await } => {
                    ended.close().await;
                    ended.next().await
                }
            };
            let Some((all, answers)) = batch else { return };
            self.write_all(all, answers).await;
        }
    }

    /// Tries until Postgres has it: an answer that was paid for is not thrown away because of an outage.
    async fn write_all(self: &Arc<Self>, all: Vec<Outcome>, answers: Vec<oneshot::Sender<bool>>) {
        let (all, slots): (Vec<Transition>, Vec<Option<Slot>>) =
            all.into_iter().map(|one| (one.next, one.slot)).unzip();
        let room = Slot::joined(slots.into_iter().flatten(), &self.slots);
        let asked = if self.has_backlog() { room.as_ref().map_or(0, Slot::permits) } else { 0 };
        let mut stopping: Option<Instant> = None;
        let (moved, taken) = loop {
            match self.database.bounded(self.try_write(&all, asked)).await {
                Ok(written) => break written,
                Err(Error::Unavailable(_) | Error::Serialization) => {}
                // One that can't be written must not take the others with it.
                Err(_) => break (self.write_each(&all).await, Vec::new()),
            }
            if self.stop.is_cancelled() && stopping.get_or_insert_with(Instant::now).elapsed() > LAST {
                break (HashSet::new(), Vec::new());
            }
            tokio::time::sleep(PAUSE).await;
        };
        // Those that wait for their answers are under way until then: there is no moment in which nothing is.
        if asked > 0 {
            self.backlog.store(taken.len() >= asked, Ordering::Relaxed);
            self.begin(taken, room);
        }
        for (one, answer) in all.iter().zip(answers) {
            // The job's task waits for it, unless the process ends.
            let _gone = answer.send(moved.contains(&one.key.job));
        }
    }

    async fn write_each(&self, all: &[Transition]) -> HashSet<Uuid> {
        let mut moved = HashSet::new();
        for one in all {
            if let Ok((written, _)) = self.database.bounded(self.try_write(std::slice::from_ref(one), 0)).await {
                moved.extend(written);
            }
        }
        moved
    }

    async fn try_write(&self, all: &[Transition], most: usize) -> Result<(HashSet<Uuid>, Vec<Claimed>), Error> {
        transition::write_and_take(self.database.pool(), all, most, self.options.lease).await
    }
}
