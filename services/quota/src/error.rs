//! What goes wrong in quota, and what a caller is told.

use std::time::Duration;

use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;

use crate::domain::{InvalidAmounts, InvalidSubject, LimitState};
use crate::refusal::{Told, refused};
use crate::storage::store;

/// A result of quota.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What goes wrong in quota.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A field of the request is wrong.
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    /// Limits refuse. All that apply are here.
    #[error("{}", Told(.0))]
    Refused(Vec<LimitState>),
    /// Counters are being rebuilt.
    #[error("counters are being rebuilt after a loss of the fast store")]
    Rebuilding(Duration),
    /// The id stands for something else.
    #[error("{0}")]
    IdReused(&'static str),
    /// A commit after a release.
    #[error("the reservation was released before")]
    Released,
    /// A release after a commit.
    #[error("the reservation was committed before")]
    Committed,
    /// A release after a take-over.
    #[error("the reservation was taken over: whoever did so says how it ended")]
    TakenOver,
    /// Nobody knows the reservation, and no handle says what it held.
    #[error("the reservation is not known, and there is no handle")]
    ReservationNotFound,
    /// A page token that the list did not give.
    #[error(transparent)]
    InvalidPageToken(#[from] weir_types::InvalidPageToken),
    /// All streams of alerts are taken.
    #[error("too many streams of alerts")]
    TooManyWatchers,
    /// There is nothing to explain.
    #[error("nothing is known of reservation {0}: it was never made, or is older than what is kept")]
    NothingKnown(weir_types::ReservationId),
    /// The queue of settlements is full.
    #[error("too many settlements are waiting")]
    Busy,
    /// As much is under way as this process takes on.
    #[error("too many operations are under way")]
    Full,
    /// The process is about to stop.
    #[error("quota is shutting down")]
    Stopping,
    /// The fast store.
    #[error(transparent)]
    Store(#[from] store::Failure),
    /// Postgres has its settlement, which came without a handle, and the fast store holds it by now: it must be settled once more,
    /// as its handle says.
    #[error("the reservation was made while it was settled")]
    HeldMeanwhile {
        /// Whether it had been settled before.
        duplicate: bool,
    },
    /// Postgres has its settlement, which goes by another handle: that from before or after a growth. Nothing was changed.
    #[error("the reservation was settled as it was held before")]
    SettledOtherwise {
        /// By which handle.
        settled: bytes::Bytes,
        /// Which was asked for now.
        asked: bytes::Bytes,
    },
    /// The counters did not hold still.
    #[error("the counters could not be read: {0}")]
    Unsettled(&'static str),
    /// The database.
    #[error(transparent)]
    Database(#[from] weir_database::Error),
    /// Billing, and there is no stored copy.
    #[error("the limits are not known: {0}")]
    Billing(Failure),
    /// Anything that can't happen.
    #[error("{0}")]
    Bug(String),
}

const SOON: Duration = Duration::from_secs(1);

impl Error {
    /// Whether asking again, unchanged, may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            weir_rpc::Error::from(self.clone()).reason(),
            ErrorReason::Unavailable | ErrorReason::Overloaded | ErrorReason::Rebuilding
        )
    }
}

impl From<InvalidAmounts> for Error {
    fn from(error: InvalidAmounts) -> Self {
        Self::Invalid("amounts", error.to_string())
    }
}

impl From<InvalidSubject> for Error {
    fn from(error: InvalidSubject) -> Self {
        let message = match &error {
            InvalidSubject::Name { message, .. } => message.clone(),
            InvalidSubject::Text { message, .. } => (*message).to_owned(),
        };
        Self::Invalid(error.field(), message)
    }
}

impl From<crate::domain::InvalidHandle> for Error {
    fn from(error: crate::domain::InvalidHandle) -> Self {
        Self::Invalid("handle", error.to_string())
    }
}

impl From<Error> for weir_rpc::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(field, text) => Self::invalid(field, text),
            Error::Refused(limits) => refused(&limits),
            Error::Rebuilding(left) => Self::new(ErrorReason::Rebuilding, message).retry_after(left),
            Error::IdReused(_) => Self::new(ErrorReason::IdReused, message),
            Error::Released => Self::new(ErrorReason::ReservationReleased, message),
            Error::Committed | Error::TakenOver => Self::new(ErrorReason::AlreadyExists, message),
            Error::ReservationNotFound => Self::new(ErrorReason::ReservationNotFound, message),
            Error::InvalidPageToken(_) => Self::new(ErrorReason::InvalidPageToken, message),
            Error::TooManyWatchers => Self::new(ErrorReason::Overloaded, message).retry_after(SOON),
            Error::NothingKnown(_) => Self::new(ErrorReason::NotFound, message),
            Error::Busy => Self::new(ErrorReason::Overloaded, message).retry_after(SOON),
            Error::Full => Self::new(ErrorReason::Overloaded, message).retry_after(SOON / 4),
            Error::Stopping => Self::new(ErrorReason::Unavailable, message).metadata("peer", "quota").retry_after(SOON),
            Error::Store(failure) => failed(&failure),
            Error::Unsettled(_) | Error::HeldMeanwhile { .. } | Error::SettledOtherwise { .. } => {
                Self::unavailable("redis", message).retry_after(SOON)
            }
            Error::Database(error) => database(&error),
            Error::Billing(failure) if failure.is_transient() => Self::from(failure).retry_after(SOON),
            Error::Billing(failure) => Self::from(failure),
            Error::Bug(text) => Self::defect(text),
        }
    }
}

fn failed(failure: &store::Failure) -> weir_rpc::Error {
    use weir_redis::Error as Redis;
    match failure {
        store::Failure::OtherGeneration | store::Failure::Redis(Redis::Unavailable | Redis::Timeout) => {
            weir_rpc::Error::unavailable("redis", failure).retry_after(SOON)
        }
        store::Failure::Busy => weir_rpc::Error::new(ErrorReason::Overloaded, failure.to_string()).retry_after(SOON),
        store::Failure::Redis(Redis::Script(_) | Redis::Internal(_)) => weir_rpc::Error::defect(failure),
        store::Failure::Closed | store::Failure::Owned => {
            weir_rpc::Error::unavailable("postgres", failure).retry_after(SOON)
        }
        store::Failure::Full => weir_rpc::Error::new(ErrorReason::Overloaded, failure.to_string()).retry_after(SOON),
    }
}

/// What the use cases didn't turn into something better. The driver's text was logged where it occurred.
fn database(error: &weir_database::Error) -> weir_rpc::Error {
    use weir_database::Error as Database;
    match error {
        Database::Unavailable(_) | Database::Serialization => {
            weir_rpc::Error::unavailable("postgres", error).retry_after(SOON)
        }
        Database::Conflict { .. } | Database::NotFound | Database::Internal(_) => weir_rpc::Error::defect(error),
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        weir_rpc::Error::from(error).into()
    }
}
