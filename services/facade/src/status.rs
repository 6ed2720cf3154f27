//! The one mapping from an error's reason to an HTTP status.

use axum::http::StatusCode;
use weir_proto::common::v1::ErrorReason;

/// The status that says `reason` over HTTP.
pub(crate) const fn of(reason: ErrorReason) -> StatusCode {
    match reason {
        ErrorReason::InvalidArgument | ErrorReason::InvalidPageToken | ErrorReason::ModelNotPriced => {
            StatusCode::BAD_REQUEST
        }
        ErrorReason::Unauthenticated | ErrorReason::CredentialRevoked => StatusCode::UNAUTHORIZED,
        ErrorReason::BudgetExhausted => StatusCode::PAYMENT_REQUIRED,
        ErrorReason::PermissionDenied | ErrorReason::ModelNotAllowed => StatusCode::FORBIDDEN,
        ErrorReason::NotFound | ErrorReason::ModelNotFound | ErrorReason::ReservationNotFound => StatusCode::NOT_FOUND,
        ErrorReason::AlreadyExists | ErrorReason::IdReused | ErrorReason::ReservationReleased => StatusCode::CONFLICT,
        ErrorReason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorReason::QuotaExceeded | ErrorReason::ProviderExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorReason::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorReason::ProviderRejected | ErrorReason::ProviderFailed => StatusCode::BAD_GATEWAY,
        ErrorReason::Unavailable | ErrorReason::Overloaded | ErrorReason::Rebuilding => StatusCode::SERVICE_UNAVAILABLE,
        ErrorReason::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorReason::Internal | ErrorReason::Unspecified => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
