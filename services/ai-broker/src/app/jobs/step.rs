//! One try of a step: raced against its job's end, its deadline and the shutdown.

use bytes::Bytes;
use tokio::time::Instant;
use weir_proto::common::v1::ErrorReason;

use super::Jobs;
use super::work::{Work, failure};
use crate::domain::jobs::{Action, Ending, Failed, resolve};

/// For the borrow checker: what a step does, apart from its job.
enum Task {
    Invoke { operation: i32, body: Bytes },
    Webhook { url: String, body: Bytes },
    Store { from: String, public: bool },
}

impl Jobs {
    /// Tries the step at `index` once.
    pub(super) async fn attempt(&self, work: &mut Work, index: usize) -> Ending {
        if work.flight.cancelled.is_cancelled() {
            return Ending::Cancelled;
        }
        if Instant::now() >= work.expires {
            return failed(ErrorReason::DeadlineExceeded, "the job's deadline has passed");
        }
        let task = match task(work, index) {
            Ok(task) => task,
            Err(message) => return failed(ErrorReason::InvalidArgument, message),
        };
        let flight = std::sync::Arc::clone(&work.flight);
        let expires = work.expires;
        let ending = tokio::select! {
            biased;
            () = flight.cancelled.cancelled() => Ending::Cancelled,
            () = flight.lost.cancelled() => Ending::Lost,
            () = tokio::time::sleep_until(expires) => failed(ErrorReason::DeadlineExceeded, "the job's deadline has passed"),
            ending = self.carry_out(work, index, task) => ending,
        };
        flight.waits(None);
        ending
    }

    async fn carry_out(&self, work: &mut Work, index: usize, task: Task) -> Ending {
        match task {
            Task::Invoke { operation, body } => self.invoke(work, index, operation, body).await,
            Task::Webhook { url, body } => self.send_webhook(work, index, &url, body).await,
            Task::Store { from, public } => self.store_answer(work, index, &from, public).await,
        }
    }
}

fn task(work: &Work, index: usize) -> Result<Task, String> {
    let step = work.spec.steps.get(index).ok_or_else(|| format!("the job has no step {index}"))?;
    let body = resolve(step.action.body(), &work.results)?;
    Ok(match &step.action {
        Action::Invoke { operation, .. } => Task::Invoke { operation: *operation, body },
        Action::Webhook { url, .. } => Task::Webhook { url: url.clone(), body },
        Action::Store { from, public } => Task::Store { from: from.clone(), public: *public },
    })
}

/// The job's deadline, and mistakes in it: final.
fn failed(reason: ErrorReason, message: impl Into<String>) -> Ending {
    Ending::Failed(Failed { error: failure(reason, message), retry_after: None })
}
