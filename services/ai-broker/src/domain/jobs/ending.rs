//! What a try of a step came to, and what follows from it.

use std::time::Duration;

use bytes::Bytes;
use weir_proto::common::v1::ErrorReason;

/// While something of ours is away or busy: before the next look, unless it says when.
const AWAY: Duration = Duration::from_secs(1);

/// The longest before the next look at a limit, however long it says: plans are changed meanwhile.
const LOOK: Duration = Duration::from_secs(300);

/// A step that is done.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) body: Bytes,
    pub(crate) content_type: String,
    /// `weir.broker.v1.Accounting`, encoded.
    pub(crate) accounting: Option<Vec<u8>>,
}

/// What is told about a try that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobError {
    pub(crate) reason: ErrorReason,
    pub(crate) message: String,
    /// Of the provider or the receiver; 0 if it was neither.
    pub(crate) http_status: i32,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) error: JobError,
    pub(crate) retry_after: Option<Duration>,
}

/// How a try of a step ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Done(Finished),
    Failed(Failed),
    /// Its client asked for the end of the job.
    Cancelled,
    /// This broker goes: another one begins the step anew.
    Released,
    /// Another broker has the job.
    Lost,
}

/// What a failed try means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next try would come to the same.
    Final,
    /// The try counts; the next one is due after the step's backoff, and not before this.
    Counts(Duration),
    /// It was nobody's fault: a limit, or something of ours that is away. It does not count, and the job's deadline bounds it.
    Waits(Duration),
}

/// Judges a failed try.
pub(crate) fn judge(failed: &Failed) -> Verdict {
    let wait = failed.retry_after;
    match (failed.error.reason, failed.error.http_status) {
        (ErrorReason::QuotaExceeded | ErrorReason::ProviderExhausted | ErrorReason::OwnKeyLimited, _) => {
            Verdict::Waits(wait.unwrap_or(AWAY).min(LOOK))
        }
        (ErrorReason::Unavailable | ErrorReason::Overloaded | ErrorReason::Rebuilding, _) => {
            Verdict::Waits(wait.unwrap_or(AWAY))
        }
        (ErrorReason::ProviderRejected, 408 | 409 | 425 | 429 | 500..) => Verdict::Counts(wait.unwrap_or_default()),
        (ErrorReason::ProviderFailed | ErrorReason::DeadlineExceeded, _) => Verdict::Counts(wait.unwrap_or_default()),
        _ => Verdict::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_wait_failures_count_and_mistakes_are_final() {
        let judged = |reason, http_status, seconds: Option<u64>| {
            let error = JobError { reason, message: String::new(), http_status };
            judge(&Failed { error, retry_after: seconds.map(Duration::from_secs) })
        };
        let second = Duration::from_secs(1);
        assert_eq!(judged(ErrorReason::QuotaExceeded, 0, Some(9)), Verdict::Waits(9 * second));
        assert_eq!(judged(ErrorReason::QuotaExceeded, 0, Some(86_400)), Verdict::Waits(300 * second));
        assert_eq!(judged(ErrorReason::ProviderExhausted, 0, None), Verdict::Waits(second));
        assert_eq!(judged(ErrorReason::OwnKeyLimited, 0, Some(3)), Verdict::Waits(3 * second));
        assert_eq!(judged(ErrorReason::Unavailable, 0, None), Verdict::Waits(second));
        assert_eq!(judged(ErrorReason::ProviderRejected, 503, Some(2)), Verdict::Counts(2 * second));
        assert_eq!(judged(ErrorReason::ProviderFailed, 0, None), Verdict::Counts(Duration::ZERO));
        assert_eq!(judged(ErrorReason::DeadlineExceeded, 0, None), Verdict::Counts(Duration::ZERO));
        for (reason, status) in [
            (ErrorReason::ProviderRejected, 400),
            (ErrorReason::BudgetExhausted, 0),
            (ErrorReason::ModelNotFound, 0),
            (ErrorReason::OwnKeyRefused, 0),
            (ErrorReason::OwnKeyRequired, 0),
            (ErrorReason::FeatureNotAllowed, 0),
            (ErrorReason::InvalidArgument, 0),
        ] {
            assert_eq!(judged(reason, status, Some(1)), Verdict::Final, "{reason:?}");
        }
    }
}
