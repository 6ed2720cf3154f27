//! Why a process did not come up.

use std::net::SocketAddr;

/// A process, or one of its services, could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened at.
    #[error("{service} can't listen at {address}: {source}")]
    Listen {
        /// Who wanted to.
        service: String,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that a service can't start without failed.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done, such as "connecting to Postgres".
        what: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// `what` (such as "connecting to Postgres") failed.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { what: what.into(), source: source.into() }
    }
}
