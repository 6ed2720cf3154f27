//! What can go wrong here, and what callers are told.

use std::time::Duration;

use weir_proto::common::v1::ErrorReason;

use crate::domain::{InvalidQuery, SumOverflow};
use crate::storage::books::Failure;

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(#[from] weir_database::Error),
    /// The transaction took too long; whether it took place is unknown.
    #[error("the database did not answer in time")]
    CommitTimeout,
    /// Too many events wait already.
    #[error("too many events are waiting to be recorded")]
    Overloaded {
        /// When there is room again, by the pace of the last commits.
        retry_after: Duration,
    },
    /// The caller's deadline passed; whether the events were recorded is unknown.
    #[error("the deadline passed before the events were durable")]
    DeadlineExceeded,
    /// The service stops.
    #[error("usage is shutting down")]
    ShuttingDown,
    /// More events than a call may bring.
    #[error("{0} events, and at most {max} in one call", max = crate::config::MAX_EVENTS)]
    TooManyEvents(usize),
    /// The sums would not fit.
    #[error(transparent)]
    Overflow(#[from] SumOverflow),
    /// A question that can't be answered.
    #[error(transparent)]
    InvalidQuery(#[from] InvalidQuery),
    /// A page token from elsewhere.
    #[error(transparent)]
    InvalidPageToken(#[from] weir_types::InvalidPageToken),
    /// A page size below zero.
    #[error(transparent)]
    NegativePageSize(#[from] weir_types::NegativePageSize),
    /// A place in the feed that it has not reached: the caller's place is from other books.
    #[error("position {after} is beyond the feed's head {head}")]
    BeyondHead {
        /// The caller's place.
        after: i64,
        /// The newest position.
        head: i64,
    },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => Self::Database(error),
            Failure::Overflow(overflow) => Self::Overflow(overflow),
            // Only `record_new` answers this, and the writer goes on with `record_any` then.
            Failure::Known => Self::Database(weir_database::Error::Internal("an id is known".to_owned())),
        }
    }
}

impl From<Error> for weir_rpc::Error {
    fn from(error: Error) -> Self {
        use weir_database::Error as Database;
        let text = error.to_string();
        match error {
            Error::Database(Database::Unavailable(detail)) => Self::unavailable("postgres", detail),
            Error::Database(Database::Serialization) | Error::CommitTimeout => Self::unavailable("postgres", text),
            Error::Database(error) => Self::defect(format!("{error:?}")),
            Error::Overloaded { retry_after } => Self::new(ErrorReason::Overloaded, text).retry_after(retry_after),
            Error::DeadlineExceeded => Self::new(ErrorReason::DeadlineExceeded, text),
            Error::ShuttingDown => Self::new(ErrorReason::Unavailable, text).metadata("peer", "usage"),
            Error::TooManyEvents(_) | Error::Overflow(_) => Self::invalid("events", text),
            Error::InvalidQuery(InvalidQuery::EmptyRange | InvalidQuery::TooWide) => Self::invalid("end_time", text),
            Error::InvalidQuery(InvalidQuery::RepeatedDimension) => Self::invalid("group_by", text),
            Error::InvalidQuery(InvalidQuery::TooManyFilters) => Self::invalid("filters", text),
            Error::InvalidPageToken(_) => {
                Self::new(ErrorReason::InvalidPageToken, text.clone()).field("page_token", text)
            }
            Error::NegativePageSize(_) => Self::invalid("page_size", text),
            Error::BeyondHead { .. } => Self::invalid("after", text),
        }
    }
}
