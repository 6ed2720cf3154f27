//! What goes wrong in billing, and what a caller is told.

use std::time::Duration;

use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_types::InvalidPageToken;

/// A result of billing.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What goes wrong in billing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request, and what is wrong with each.
    #[error("the request is not valid: {}", .0.iter().map(|(field, text)| format!("{field}: {text}")).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<(String, String)>),
    /// A page token that this list did not give.
    #[error(transparent)]
    PageToken(#[from] InvalidPageToken),
    /// The resource does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Usage's feed can't be read.
    #[error("usage's feed can't be read: {0}")]
    Feed(Box<Failure>),
    /// Another replica has taken rating over.
    #[error("another replica rates")]
    Superseded,
    /// The database.
    #[error(transparent)]
    Database(#[from] weir_database::Error),
    /// What can't happen.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// One field is wrong.
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.into(), description.into())])
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<Error> for weir_rpc::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(fields) => fields
                .into_iter()
                .fold(Self::new(ErrorReason::InvalidArgument, message), |error, (name, text)| error.field(name, text)),
            Error::PageToken(_) => {
                Self::new(ErrorReason::InvalidPageToken, message.clone()).field("page_token", message)
            }
            Error::NotFound(_) => Self::new(ErrorReason::NotFound, message),
            Error::Feed(failure) => Self::unavailable("usage", failure).retry_after(SOON),
            Error::Database(error) => database(&error),
            Error::Superseded | Error::Bug(_) => Self::defect(message),
        }
    }
}

const SOON: Duration = Duration::from_secs(1);

/// The driver's text was logged where it occurred.
fn database(error: &weir_database::Error) -> weir_rpc::Error {
    use weir_database::Error as Database;
    match error {
        // A lost race, like an outage, may be tried again.
        Database::Unavailable(_) | Database::Serialization => {
            weir_rpc::Error::new(ErrorReason::Unavailable, "billing's database is not available")
                .metadata("peer", "postgres")
                .retry_after(SOON)
        }
        Database::Conflict { .. } | Database::NotFound | Database::Internal(_) => weir_rpc::Error::defect(error),
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        weir_rpc::Error::from(error).into()
    }
}
