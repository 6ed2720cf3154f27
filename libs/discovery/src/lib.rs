//! Where a service's instances are: a [`Directory`] that can be watched, and registered at.
//!
//! Three of them: [`Static`] (addresses from the configuration), [`Dns`] (looked up again and again) and [`Consul`].
//! Names of services are those of the crates (`auth`, `quota`, `ai-broker`, `usage`, `billing`).

mod config;
mod consul;
mod dns;
mod fixed;
mod instance;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use config::{Config, ConsulConfig, DEFAULTS, DnsConfig, Kind};
pub use consul::Consul;
pub use dns::Dns;
pub use fixed::Static;
pub use instance::{Endpoint, Instance, InvalidEndpoint, Registration};

/// Knows where the instances of every service are.
pub trait Directory: Send + Sync + 'static {
    /// The instances of `service` now, and again whenever they change. Errors don't end it: the last known
    /// instances stay, and the directory asks again. It ends only when the answer can never change.
    fn watch(&self, service: &str) -> BoxStream<'static, Vec<Endpoint>>;

    /// Announces an instance and keeps it announced until [`Registration::end`]. Directories that others fill
    /// have nothing to do.
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>>;
}

/// A directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer.
    #[error("{directory} does not answer: {reason}")]
    Unavailable {
        /// Which directory.
        directory: String,
        /// What happened.
        reason: String,
    },
    /// It answered, and refused.
    #[error("{directory} refused: {status}: {reason}")]
    Refused {
        /// Which directory.
        directory: String,
        /// The HTTP status.
        status: u16,
        /// Its answer's text, cut.
        reason: String,
    },
}

/// The directory that the configuration names.
///
/// # Errors
/// When an HTTP client can't be made.
pub fn open(config: &Config) -> Result<Arc<dyn Directory>, Error> {
    Ok(match config.kind {
        Kind::Static => Arc::new(Static::new(config.endpoints())),
        Kind::Dns => Arc::new(Dns::new(config.endpoints(), config.dns.interval)),
        Kind::Consul => Arc::new(Consul::new(&config.consul)?),
    })
}
