use redis::{ErrorKind, RedisError, ServerError};

/// Why a call failed. Where Redis may have executed a call (`Timeout`, and `Unavailable` when the connection broke in the
/// middle), the caller can't know: calls must be idempotent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no connection, it broke, or the server can't serve now (loading, read-only, out of memory, fail-over).
    #[error("redis is unavailable")]
    Unavailable,
    /// No answer before the deadline.
    #[error("redis did not answer in time")]
    Timeout,
    /// The server refused a command, or the script returned or raised an error.
    #[error("redis refused the command: {0}")]
    Script(String),
    /// The answer has not the expected type, or the client is misconfigured.
    #[error("redis client: {0}")]
    Internal(String),
}

/// Codes by which a server says "not me, not now": loading, fail-over, out of memory, can't persist, busy with a script.
const NOT_NOW: &[&str] = &[
    "LOADING",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "READONLY",
    "NOREPLICAS",
    "OOM",
    "MISCONF",
    "BUSY",
    "NOAUTH",
    "WRONGPASS",
];

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        match error.kind() {
            ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => Self::Unavailable,
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let text = error.to_string();
                // Several, if it was a pipeline.
                let errors = error.into_server_errors();
                let not_now = |(_, error): &(usize, ServerError)| NOT_NOW.contains(&error.code());
                if errors.is_some_and(|errors| errors.iter().any(not_now)) {
                    Self::Unavailable
                } else {
                    Self::Script(text)
                }
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<redis::ParsingError> for Error {
    fn from(error: redis::ParsingError) -> Self {
        Self::Internal(error.to_string())
    }
}
