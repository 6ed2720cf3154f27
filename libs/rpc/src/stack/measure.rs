//! What is measured of every call, by handles that are looked up once.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Histogram};
use tokio::time::Instant;
use tonic::Code;

const CODES: usize = 17;

/// The metrics of one method.
pub(super) struct MethodMetrics(Arc<Handles>);

struct Handles {
    path: &'static str,
    seconds: Histogram,
    /// By code; made when a code first occurs, so that there are no series of things that never happen.
    calls: [OnceLock<Counter>; CODES],
}

/// A call that is being measured. Dropped before its end, it was cancelled.
pub(super) struct Measured<'a> {
    handles: &'a Arc<Handles>,
    started: Instant,
    ended: bool,
}

/// As [`Measured`], for a stream that outlives the call's future.
pub(super) struct MeasuredStream {
    handles: Arc<Handles>,
    started: Instant,
    code: Code,
}

impl MethodMetrics {
    pub(super) fn new(path: &'static str) -> Self {
        let path = path.trim_start_matches('/');
        let seconds = metrics::histogram!("weir_rpc_server_seconds", "method" => path);
        Self(Arc::new(Handles { path, seconds, calls: [const { OnceLock::new() }; CODES] }))
    }

    pub(super) fn start(&self, now: Instant) -> Measured<'_> {
        Measured { handles: &self.0, started: now, ended: false }
    }
}

impl Handles {
    fn record(&self, started: Instant, code: Code) {
        self.seconds.record(started.elapsed().as_secs_f64());
        if let Some(counter) = self.calls.get((code as i32).unsigned_abs() as usize) {
            counter
                .get_or_init(
                    || metrics::counter!("weir_rpc_server_calls_total", "method" => self.path, "code" => name(code)),
                )
                .increment(1);
        }
    }
}

impl Measured<'_> {
    pub(super) fn end(mut self, code: Code) {
        self.ended = true;
        self.handles.record(self.started, code);
    }

    /// Goes on while the stream flows.
    pub(super) fn stream(mut self) -> MeasuredStream {
        self.ended = true;
        MeasuredStream { handles: Arc::clone(self.handles), started: self.started, code: Code::Cancelled }
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.handles.record(self.started, Code::Cancelled);
        }
    }
}

impl MeasuredStream {
    /// The stream has ended so; what comes after does not change it.
    pub(super) fn ended(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for MeasuredStream {
    fn drop(&mut self) {
        self.handles.record(self.started, self.code);
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
