//! One request in the queue.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A request from its submission on.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// The first two parts of the path, under which it is asked for.
    pub(crate) app: String,
    pub(crate) secret: Box<str>,
    /// Counts up over all jobs.
    pub(crate) sequence: u64,
    pub(crate) cancel: CancellationToken,
    phase: Mutex<Phase>,
}

/// How far a request is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Queued,
    Running,
    Done { result: Arc<Value>, seconds: f64 },
    Failed { status: u16, message: &'static str, kind: &'static str },
}

impl Phase {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "IN_QUEUE",
            Self::Running => "IN_PROGRESS",
            Self::Done { .. } | Self::Failed { .. } => "COMPLETED",
        }
    }
}

impl Job {
    pub(crate) fn new(id: String, app: String, secret: &str, sequence: u64) -> Self {
        let (cancel, phase) = (CancellationToken::new(), Mutex::new(Phase::Queued));
        Self { id, app, secret: Box::from(secret), sequence, cancel, phase }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Done { .. } | Phase::Failed { .. })
    }
}
