use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Secret, Validate};

/// The commented defaults of the table `[database]`.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// Where Postgres is and how its connections are pooled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `postgres://user:password@host:port/database`.
    pub url: Secret,
    /// The most connections of one pool.
    pub max_connections: u32,
    /// The connections that a pool keeps even when idle.
    pub min_connections: u32,
    /// How long a caller waits for a connection.
    #[serde(with = "weir_config::duration")]
    pub acquire_timeout: Duration,
    /// After how long an unused connection is closed.
    #[serde(with = "weir_config::duration")]
    pub idle_timeout: Duration,
    /// After how long any connection is replaced.
    #[serde(with = "weir_config::duration")]
    pub max_lifetime: Duration,
    /// How long one statement of a transaction may run.
    #[serde(with = "weir_config::duration")]
    pub statement_timeout: Duration,
    /// Prepared statements kept per connection; 0 behind a PgBouncer that doesn't track them.
    pub statement_cache_capacity: usize,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        if let Err(message) = crate::url::check(self.url.expose()) {
            problems.push(Problem::new(at, "url", message).hint("postgres://user:password@host:5432/database"));
        }
        if self.max_connections == 0 {
            problems.push(Problem::new(at, "max_connections", "must be at least 1"));
        }
        if self.min_connections > self.max_connections {
            problems.push(Problem::new(at, "min_connections", "must not be more than max_connections"));
        }
        for (key, value) in [
            ("acquire_timeout", self.acquire_timeout),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
            ("statement_timeout", self.statement_timeout),
        ] {
            // The server counts in milliseconds, and its 0 means "no limit".
            if value < Duration::from_millis(1) {
                problems.push(Problem::new(at, key, "must be at least 1ms"));
            }
        }
    }
}
