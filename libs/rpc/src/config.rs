//! The `[rpc]` section.

use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Validate};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// Calls between the services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest message, in bytes, either way.
    pub max_message_bytes: usize,
    /// How calls are served.
    pub server: ServerConfig,
    /// How calls are made.
    pub client: ClientConfig,
}

/// How calls are served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// No call runs longer, whatever its caller allows; streams without a deadline are exempt.
    #[serde(with = "weir_config::duration")]
    pub max_deadline: Duration,
    /// Calls that one service works on at once; more are refused.
    pub max_in_flight: usize,
    /// HTTP/2 streams per connection.
    pub max_concurrent_streams: u32,
    /// An idle connection is pinged this often.
    #[serde(with = "weir_config::duration")]
    pub keep_alive_interval: Duration,
    /// A ping that stays unanswered this long ends the connection.
    #[serde(with = "weir_config::duration")]
    pub keep_alive_timeout: Duration,
}

/// How calls are made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The deadline of a call that neither sets one nor serves a request that has one; streams are exempt.
    #[serde(with = "weir_config::duration")]
    pub deadline: Duration,
    /// How long a connection may take to come up.
    #[serde(with = "weir_config::duration")]
    pub connect_timeout: Duration,
    /// An idle connection is pinged this often.
    #[serde(with = "weir_config::duration")]
    pub keep_alive_interval: Duration,
    /// A ping that stays unanswered this long ends the connection.
    #[serde(with = "weir_config::duration")]
    pub keep_alive_timeout: Duration,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        if !(64 * 1024..=1024 * 1024 * 1024).contains(&self.max_message_bytes) {
            problems.push(Problem::new(at, "max_message_bytes", "must be between 65536 and 1073741824"));
        }
        if self.server.max_in_flight == 0 {
            problems.push(Problem::new(at, "server.max_in_flight", "must be at least 1"));
        }
        if self.server.max_concurrent_streams == 0 {
            problems.push(Problem::new(at, "server.max_concurrent_streams", "must be at least 1"));
        }
        for (key, duration) in [
            ("server.max_deadline", self.server.max_deadline),
            ("server.keep_alive_interval", self.server.keep_alive_interval),
            ("server.keep_alive_timeout", self.server.keep_alive_timeout),
            ("client.deadline", self.client.deadline),
            ("client.connect_timeout", self.client.connect_timeout),
            ("client.keep_alive_interval", self.client.keep_alive_interval),
            ("client.keep_alive_timeout", self.client.keep_alive_timeout),
        ] {
            if duration.is_zero() {
                problems.push(Problem::new(at, key, "must be longer than zero"));
            }
        }
    }
}
