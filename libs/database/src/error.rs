//! Driver errors end here: they are logged once and replaced by what a caller can act on.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::counter;
use tracing::{error, warn};

/// What a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection, a lost one, a statement over its time, a server that is starting, stopping or full. Worth another try
    /// later; whether the last statement was executed is unknown.
    #[error("the database is unavailable")]
    Unavailable(String),
    /// A constraint refused the row.
    #[error("constraint {constraint} refused the row")]
    Conflict {
        /// The constraint's name, as migrations spell it.
        constraint: String,
    },
    /// A row that had to be there isn't.
    #[error("no such row")]
    NotFound,
    /// A serialization failure or a deadlock: nothing happened, the whole transaction may be tried again at once.
    #[error("the transaction lost a race")]
    Serialization,
    /// A mistake of ours: bad SQL, a wrong type, a missing permission.
    #[error("database error")]
    Internal(String),
}

impl Error {
    /// Whether this is a violation of the named constraint.
    pub fn is_conflict(&self, name: &str) -> bool {
        matches!(self, Self::Conflict { constraint } if constraint == name)
    }

    /// Decides by SQLSTATE. `message` is for the log, `constraint` for the caller.
    fn from_state(state: &str, message: &str, constraint: Option<&str>) -> Self {
        let class = state.get(..2).unwrap_or_default();
        match (class, state) {
            // Unique, foreign key, check, exclusion. Not-null (23502) has no name: it is a bug.
            (_, "23505" | "23503" | "23514" | "23P01") => match constraint {
                Some(constraint) => Self::Conflict { constraint: constraint.to_owned() },
                None => Self::internal(format!("{state} {message}")),
            },
            (_, "40001" | "40P01") => Self::Serialization,
            // Connection lost; resources gone; operator intervention (57014 is the statement timeout); lock timeout;
            // idle in transaction for too long; a primary that became a replica; an I/O error of the server.
            ("08" | "53" | "57" | "58", _) | (_, "55P03" | "25P03" | "25006") => {
                Self::unavailable(format!("{state} {message}"))
            }
            _ => Self::internal(format!("{state} {message}")),
        }
    }

    pub(crate) fn unavailable(detail: String) -> Self {
        counter!("weir_database_errors_total", "kind" => "unavailable").increment(1);
        // A database that is down fails every call: one line a second says as much as a thousand.
        if let Some(left_out) = OUTAGE_LOG.admit() {
            warn!(error = %detail, left_out, "database unavailable");
        }
        Self::Unavailable(detail)
    }

    pub(crate) fn internal(detail: String) -> Self {
        counter!("weir_database_errors_total", "kind" => "internal").increment(1);
        error!(error = %detail, "database error");
        Self::Internal(detail)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                Self::from_state(error.code().as_deref().unwrap_or_default(), error.message(), error.constraint())
            }
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::unavailable(error.to_string()),
            sqlx::Error::Migrate(error) => (*error).into(),
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(sqlx::Error::Database(error), version) => Self::internal(format!(
                "migration {version}: {} {}",
                error.code().as_deref().unwrap_or_default(),
                error.message()
            )),
            MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::from_state(error.code().code(), error.message(), error.constraint());
        }
        // The driver keeps its kinds to itself: what has an I/O error below it, or says "closed", is the connection.
        let source = std::error::Error::source(&error);
        if error.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>()) {
            return Self::unavailable(with_sources(&error));
        }
        match error.to_string().as_str() {
            "connection closed"
            | "error connecting to server"
            | "timeout waiting for server"
            | "error communicating with the server"
            | "error performing TLS handshake" => Self::unavailable(with_sources(&error)),
            "query returned an unexpected number of rows" => Self::NotFound,
            _ => Self::internal(with_sources(&error)),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::PoolError;
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) | PoolError::Closed => Self::unavailable(error.to_string()),
            other => Self::internal(other.to_string()),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// At most one line a second, which says how many were left out before it.
struct OncePerSecond {
    last: AtomicU64,
    left_out: AtomicU64,
}

static OUTAGE_LOG: OncePerSecond = OncePerSecond { last: AtomicU64::new(0), left_out: AtomicU64::new(0) };

impl OncePerSecond {
    fn admit(&self) -> Option<u64> {
        let second =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}
