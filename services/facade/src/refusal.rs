//! Why a request is refused, before it takes the shape of the API that it was made to.

use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use tonic::Status;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Failure, Violation};

/// A refusal: its class, and what is to be said about it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    class: Class,
    failure: Failure,
}

/// The classes of refusals: the services' reasons, and what only HTTP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// What a service, or the facade in a service's terms, says.
    Reason(ErrorReason),
    /// The route exists and does not take the method.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTooSlow,
    /// The body is compressed.
    EncodingNotSupported,
}

impl Refusal {
    /// A refusal of a class that the services do not know.
    pub(crate) fn of(class: Class, message: impl Into<String>) -> Self {
        Self { class, ..Error::new(ErrorReason::InvalidArgument, message.into()).into() }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    pub(crate) fn reason(&self) -> ErrorReason {
        self.failure.reason()
    }

    /// For the caller.
    pub(crate) fn message(&self) -> &str {
        self.failure.message()
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after()
    }

    /// The same request again is refused again, although SDKs repeat those with its status.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.reason(), ErrorReason::Unimplemented | ErrorReason::IdReused | ErrorReason::NotRepeatable)
    }

    /// The parameters at fault.
    pub(crate) fn fields(&self) -> &[Violation] {
        self.failure.fields()
    }

    /// The limits that refused.
    pub(crate) fn violations(&self) -> &[Violation] {
        self.failure.violations()
    }

    /// A figure of a limit that refused.
    pub(crate) fn figure(&self, limit: &str, key: &str) -> Option<&str> {
        self.failure.figure(limit, key)
    }

    /// A provider's own refusal, passed on as it came. What is not JSON is replaced.
    pub(crate) fn passed_on(&self) -> Option<(StatusCode, Bytes)> {
        let answer = self.failure.provider_error()?;
        let status = u16::try_from(answer.http_status).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
        let is_error = (status.is_client_error() || status.is_server_error())
            && serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
        is_error.then(|| (status, answer.body.clone()))
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.class.status()
    }
}

impl Class {
    /// The one mapping to HTTP.
    pub(crate) const fn status(self) -> StatusCode {
        use ErrorReason as R;
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::EncodingNotSupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Reason(reason) => match reason {
                R::InvalidArgument | R::InvalidPageToken | R::ModelNotPriced => StatusCode::BAD_REQUEST,
                R::Unauthenticated | R::CredentialRevoked => StatusCode::UNAUTHORIZED,
                R::BudgetExhausted => StatusCode::PAYMENT_REQUIRED,
                R::PermissionDenied
                | R::ModelNotAllowed
                | R::FeatureNotAllowed
                | R::OwnKeyRefused
                | R::OwnKeyRequired => StatusCode::FORBIDDEN,
                R::NotFound | R::ModelNotFound | R::ReservationNotFound => StatusCode::NOT_FOUND,
                R::AlreadyExists | R::IdReused | R::ReservationReleased | R::CallInProgress | R::NotRepeatable => {
                    StatusCode::CONFLICT
                }
                R::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                R::QuotaExceeded | R::ProviderExhausted | R::OwnKeyLimited => StatusCode::TOO_MANY_REQUESTS,
                R::Unimplemented => StatusCode::NOT_IMPLEMENTED,
                R::ProviderRejected | R::ProviderFailed => StatusCode::BAD_GATEWAY,
                R::Unavailable | R::Overloaded | R::Rebuilding => StatusCode::SERVICE_UNAVAILABLE,
                R::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
                R::Internal | R::Unspecified => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// What programs branch on: `quota_exceeded`.
    pub(crate) fn code(self) -> String {
        match self {
            Self::MethodNotAllowed => "method_not_allowed".to_owned(),
            Self::BodyTooSlow => "body_too_slow".to_owned(),
            Self::EncodingNotSupported => "encoding_not_supported".to_owned(),
            Self::Reason(reason) => reason.as_str_name().trim_start_matches("ERROR_REASON_").to_ascii_lowercase(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // Made a status first: that is where an error's internal detail is logged.
        let failure = Failure::from(Status::from(error));
        Self { class: Class::Reason(failure.reason()), failure }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        // Which address did not answer, and what a defect looks like, is for the log and not for the caller.
        match failure.reason() {
            ErrorReason::Internal | ErrorReason::Unspecified => {
                Error::defect(format!("a service answered: {}", failure.message())).into()
            }
            _ if failure.metadata("peer").is_some() => Error::from(failure).into(),
            reason => Self { class: Class::Reason(reason), failure },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_service_that_does_not_answer_is_not_told() {
        let silent = Error::new(ErrorReason::Unavailable, "quota: 10.0.0.7:9102 refused the connection");
        let failure = Failure::from(Status::from(silent.metadata("peer", "quota")));
        let refusal = Refusal::from(failure);
        assert_eq!((refusal.message(), refusal.status().as_u16()), ("quota is not available", 503));
    }

    #[test]
    fn what_a_broken_service_says_is_not_told() {
        let refusal = Refusal::from(Failure::from(Status::unknown("h2 protocol error at 10.0.0.7")));
        assert_eq!((refusal.message(), refusal.status().as_u16()), ("internal error", 500));
    }

    #[test]
    fn what_a_service_refuses_is_told_as_it_said_it() {
        let refused = Error::invalid("page_size", "must not be negative").retry_after(Duration::from_secs(3));
        let refusal = Refusal::from(Failure::from(Status::from(refused)));
        assert_eq!(refusal.message(), "page_size: must not be negative");
        assert_eq!(refusal.fields()[0].subject, "page_size");
        assert_eq!(
            (refusal.class().code().as_str(), refusal.retry_after()),
            ("invalid_argument", Some(Duration::from_secs(3)))
        );
    }
}
