//! One closed set of errors, and what it looks like on the wire.

mod failure;
mod log;
mod wire;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
pub use weir_proto::common::v1::ProviderError;
use weir_proto::common::v1::{ErrorReason, ItemError};

pub use failure::Failure;

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "weir";

/// What is said to a caller about a defect of ours.
const INTERNAL_MESSAGE: &str = "internal error";

/// An error of an RPC: a reason, a text for the caller, and a detail for the log only.
///
/// It becomes a [`Status`] by `?` in a handler: the code follows from the reason, the rest goes into the
/// standard details (`ErrorInfo`, `BadRequest`, `QuotaFailure`, `RetryInfo`) and `ProviderError`. The internal
/// detail is logged there, once, under the request's id, and never sent.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: ErrorReason,
    message: Cow<'static, str>,
    internal: Option<String>,
    fields: Vec<Violation>,
    violations: Vec<Violation>,
    metadata: Vec<(Cow<'static, str>, String)>,
    retry_after: Option<Duration>,
    provider: Option<ProviderError>,
}

/// A subject (a field's path, a limit's name) and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, or the limit's name.
    pub subject: String,
    /// For developers.
    pub description: String,
}

impl Error {
    /// An error with a reason and a text for the caller.
    pub fn new(reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            internal: None,
            fields: Vec::new(),
            violations: Vec::new(),
            metadata: Vec::new(),
            retry_after: None,
            provider: None,
        }))
    }

    /// A defect of ours: the caller learns nothing but that, the log gets `detail`.
    pub fn defect(detail: impl fmt::Display) -> Self {
        Self::new(ErrorReason::Internal, INTERNAL_MESSAGE).internal(detail)
    }

    /// A service or a store, `peer`, does not answer; the log gets `detail`.
    pub fn unavailable(peer: &str, detail: impl fmt::Display) -> Self {
        Self::new(ErrorReason::Unavailable, format!("{peer} is not available")).metadata("peer", peer).internal(detail)
    }

    /// A field of the request is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(ErrorReason::InvalidArgument, format!("{field}: {description}")).field(field, description)
    }

    /// The resource does not exist, or is not the caller's to see.
    pub fn not_found(name: &str) -> Self {
        Self::new(ErrorReason::NotFound, format!("{name} does not exist"))
    }

    /// Adds what only the log may know.
    #[must_use]
    pub fn internal(mut self, detail: impl fmt::Display) -> Self {
        self.0.internal = Some(detail.to_string());
        self
    }

    /// Adds a sentence to the text for the caller.
    #[must_use]
    pub fn advice(mut self, sentence: &str) -> Self {
        let message = self.0.message.to_mut();
        message.push_str(". ");
        message.push_str(sentence);
        self
    }

    /// Names a wrong field (`BadRequest`).
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.fields.push(Violation { subject: name.into(), description: description.into() });
        self
    }

    /// Names a limit that refused (`QuotaFailure`).
    #[must_use]
    pub fn violation(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.violations.push(Violation { subject: subject.into(), description: description.into() });
        self
    }

    /// Adds to the metadata of `ErrorInfo`.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.0.metadata.push((key.into(), value.into()));
        self
    }

    /// When to try again (`RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// The provider's own answer.
    #[must_use]
    pub fn provider(mut self, answer: ProviderError) -> Self {
        self.0.provider = Some(answer);
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// The text for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The gRPC code, which follows from the reason.
    #[must_use]
    pub fn code(&self) -> Code {
        code(self.0.reason)
    }
}

/// The gRPC code of a reason.
pub(crate) const fn code(reason: ErrorReason) -> Code {
    use ErrorReason as R;
    match reason {
        R::InvalidArgument | R::TooLarge | R::InvalidPageToken => Code::InvalidArgument,
        R::Unauthenticated | R::CredentialRevoked => Code::Unauthenticated,
        R::PermissionDenied | R::ModelNotAllowed | R::FeatureNotAllowed | R::OwnKeyRequired => Code::PermissionDenied,
        R::NotFound | R::ModelNotFound | R::ReservationNotFound => Code::NotFound,
        R::AlreadyExists | R::IdReused | R::NotRepeatable => Code::AlreadyExists,
        R::QuotaExceeded | R::BudgetExhausted | R::OwnKeyLimited => Code::ResourceExhausted,
        R::ModelNotPriced | R::ProviderRejected | R::OwnKeyRefused | R::ReservationReleased => Code::FailedPrecondition,
        // Not UNAVAILABLE: generic clients repeat that, and the provider may have been paid already.
        R::ProviderFailed | R::CallInProgress => Code::Aborted,
        R::ProviderExhausted | R::Unavailable | R::Overloaded | R::Rebuilding => Code::Unavailable,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        R::Unimplemented => Code::Unimplemented,
        R::Unspecified | R::Internal => Code::Internal,
    }
}

/// The reason that a bare code stands for: what peers that are not ours, and tonic itself, send.
pub(crate) const fn reason(code: Code) -> ErrorReason {
    use ErrorReason as R;
    match code {
        Code::InvalidArgument => R::InvalidArgument,
        Code::DeadlineExceeded | Code::Cancelled => R::DeadlineExceeded,
        Code::NotFound => R::NotFound,
        Code::AlreadyExists => R::AlreadyExists,
        Code::PermissionDenied => R::PermissionDenied,
        Code::ResourceExhausted => R::Overloaded,
        // tonic's answer to a message over the limit.
        Code::OutOfRange => R::TooLarge,
        Code::Unimplemented => R::Unimplemented,
        Code::Unavailable => R::Unavailable,
        Code::Unauthenticated => R::Unauthenticated,
        Code::Ok | Code::Unknown | Code::FailedPrecondition | Code::Aborted | Code::Internal | Code::DataLoss => {
            R::Internal
        }
    }
}

/// The status of an error, without a line in the log: for what a client finds out about its peer.
pub(crate) fn silent_status(error: &Error) -> Status {
    wire::status(error)
}

/// A status that a handler, or tonic itself, made by hand, with the details that every error carries; none if it has
/// them already. What came from the inside is logged and replaced.
pub(crate) fn complete(status: &Status) -> Option<Status> {
    if status.code() == Code::Ok || !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    Some(match status.code() {
        Code::Internal if message.starts_with("failed to decode Protobuf message") => {
            Error::new(ErrorReason::InvalidArgument, message.to_owned()).into()
        }
        Code::Internal | Code::Unknown | Code::DataLoss => Error::defect(message).into(),
        Code::OutOfRange => Error::new(ErrorReason::TooLarge, message.to_owned()).into(),
        code => wire::with_code(code, &Error::new(reason(code), message.to_owned())),
    })
}

impl From<Error> for ItemError {
    /// For one item of a batch, which has no details but when to try again.
    fn from(error: Error) -> Self {
        log::log(&error);
        let retry_after = error.0.retry_after.and_then(|delay| delay.try_into().ok());
        Self {
            code: error.code().into(),
            reason: error.reason().into(),
            message: error.0.message.into_owned(),
            retry_after,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        log::log(&error);
        wire::status(&error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("internal", &self.0.internal)
            .field("metadata", &self.0.metadata)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}
