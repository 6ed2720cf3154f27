//! What a caller is told when something goes wrong.

use std::time::Duration;

use weir_proto::common::v1::ErrorReason;

use crate::domain::Refusal;
use crate::error::Error;

impl From<Error> for weir_rpc::Error {
    fn from(error: Error) -> Self {
        const SOON: Duration = Duration::from_secs(1);
        let message = error.to_string();
        match error {
            Error::Invalid(invalid) => invalid
                .fields()
                .fold(Self::new(ErrorReason::InvalidArgument, message), |error, (name, text)| error.field(name, text)),
            Error::PageToken(_) => {
                Self::new(ErrorReason::InvalidPageToken, message.clone()).field("page_token", message)
            }
            Error::NotFound(_) => Self::new(ErrorReason::NotFound, message),
            Error::EmailTaken => Self::new(ErrorReason::AlreadyExists, message.clone()).field("email", message),
            Error::OrganizationDiffers(_) => Self::new(ErrorReason::IdReused, message),
            Error::AlreadyRotated { successor } => {
                Self::new(ErrorReason::AlreadyExists, message).metadata("rotated_to", successor)
            }
            Error::Lacking(scope) => {
                Self::new(ErrorReason::PermissionDenied, message).metadata("scope", scope.as_str())
            }
            Error::Refused(Refusal::Revoked | Refusal::OwnerDisabled) => {
                Self::new(ErrorReason::CredentialRevoked, message)
            }
            Error::Refused(Refusal::Unknown | Refusal::Expired) | Error::WrongPassword => {
                Self::new(ErrorReason::Unauthenticated, message)
            }
            Error::Busy | Error::FellBehind(_) => Self::new(ErrorReason::Overloaded, message).retry_after(SOON),
            Error::NotReady(_) | Error::Stopping => {
                Self::new(ErrorReason::Unavailable, message).metadata("peer", "auth").retry_after(SOON)
            }
            Error::Database(error) => database(&error),
            Error::Defect(_) | Error::Bug(_) => Self::defect(message),
        }
    }
}

/// What the use cases didn't turn into something better. The driver's text was logged where it occurred.
fn database(error: &weir_database::Error) -> weir_rpc::Error {
    use weir_database::Error as Database;
    match error {
        // A lost race, like an outage, may be tried again.
        Database::Unavailable(_) | Database::Serialization => {
            weir_rpc::Error::new(ErrorReason::Unavailable, "auth's database is not available")
                .metadata("peer", "postgres")
                .retry_after(Duration::from_secs(1))
        }
        Database::Conflict { .. } | Database::NotFound | Database::Internal(_) => weir_rpc::Error::defect(error),
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        weir_rpc::Error::from(error).into()
    }
}
