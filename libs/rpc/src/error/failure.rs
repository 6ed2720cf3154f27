//! A failed call, as the client sees it.

use std::time::Duration;

use tonic::{Code, Status};
use weir_proto::common::v1::{ErrorReason, ItemError, ProviderError};

use super::{Error, Violation, wire};

/// What a sibling's error says, read from its [`Status`]. Clients branch on [`reason`](Self::reason), never on
/// the message.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(pub(super) Box<Told>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) code: Code,
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) retry_after: Option<Duration>,
    pub(super) fields: Vec<Violation>,
    pub(super) violations: Vec<Violation>,
    pub(super) provider_error: Option<ProviderError>,
}

impl Failure {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The text for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// A value of the `ErrorInfo`'s metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The fields that were wrong.
    #[must_use]
    pub fn fields(&self) -> &[Violation] {
        &self.0.fields
    }

    /// The limits that refused.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// A figure of a limit that refused, as quota tells it to programs: `unit`, `cap`, `used`, `requested`, `reset_ms`.
    #[must_use]
    pub fn figure(&self, limit: &str, key: &str) -> Option<&str> {
        let figures = self.0.metadata.iter().find(|(name, _)| name.strip_prefix("limit.") == Some(limit))?;
        figures.1.split(';').find_map(|figure| figure.strip_prefix(key)?.strip_prefix('='))
    }

    /// The provider's own answer.
    #[must_use]
    pub fn provider_error(&self) -> Option<&ProviderError> {
        self.0.provider_error.as_ref()
    }

    /// Whether the same call may succeed later without any change of it: the peer or a store was away, or busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.0.reason,
            ErrorReason::Unavailable
                | ErrorReason::Overloaded
                | ErrorReason::Rebuilding
                | ErrorReason::DeadlineExceeded
        )
    }
}

impl From<ItemError> for Failure {
    /// Of one item of a batch.
    fn from(error: ItemError) -> Self {
        let reason = error.reason();
        let retry_after = error.retry_after.and_then(|delay| delay.try_into().ok());
        Self(Box::new(Told {
            code: Code::from(error.code),
            reason,
            message: error.message,
            metadata: Vec::new(),
            retry_after,
            fields: Vec::new(),
            violations: Vec::new(),
            provider_error: None,
        }))
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        wire::failure(status)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        wire::failure(&status)
    }
}

impl From<Failure> for Error {
    /// Passes a sibling's refusal on as it came.
    fn from(failure: Failure) -> Self {
        let peer = failure.metadata("peer").map(str::to_owned);
        let told = *failure.0;
        let mut error = match peer {
            // Which address did not answer is for the log.
            Some(peer) if told.reason == ErrorReason::Unavailable => Self::unavailable(&peer, told.message),
            _ => Self::new(told.reason, told.message),
        };
        error.0.metadata = told.metadata.into_iter().map(|(key, value)| (key.into(), value)).collect();
        error.0.retry_after = told.retry_after;
        error.0.fields = told.fields;
        error.0.violations = told.violations;
        error.0.provider = told.provider_error;
        error
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.0.message, wire::reason_text(self.0.reason))
    }
}

impl std::error::Error for Failure {}
