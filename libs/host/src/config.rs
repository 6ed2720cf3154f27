//! The `[host]` section.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Validate};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The life of a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Metrics, liveness and readiness; empty: none.
    pub admin_listen: String,
    /// This process among its like; empty: [`Config::instance`] makes one.
    pub instance: String,
    /// The host that a directory hands out; empty: the listener's address.
    pub advertise: String,
    /// Between withdrawing readiness and closing connections.
    #[serde(with = "weir_config::duration")]
    pub shutdown_delay: Duration,
    /// How long work that has begun may go on after the signal to stop.
    #[serde(with = "weir_config::duration")]
    pub drain: Duration,
    /// How often readiness is found out anew.
    #[serde(with = "weir_config::duration")]
    pub probe_interval: Duration,
    /// How long a probe may take.
    #[serde(with = "weir_config::duration")]
    pub probe_timeout: Duration,
    /// How many misses of a probe in a row make the service unready.
    pub probe_misses: u32,
    /// Where each service listens, by the names of the configuration (`ai_broker`); empty: no socket.
    pub listen: BTreeMap<String, String>,
    /// The public HTTP listener.
    pub http: HttpConfig,
}

/// The public HTTP listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// How long a client may take to send a request's head.
    #[serde(with = "weir_config::duration")]
    pub header_timeout: Duration,
    /// The largest head, in bytes.
    pub max_header_bytes: usize,
}

impl Config {
    /// Where `service` listens; none for no socket.
    #[must_use]
    pub fn listen(&self, service: &str) -> Option<SocketAddr> {
        self.listen.get(&service.replace('-', "_"))?.parse().ok()
    }

    /// Takes the gRPC sockets away: for a process that has all services in it.
    #[must_use]
    pub fn without_grpc_sockets(mut self) -> Self {
        for (service, address) in &mut self.listen {
            if service != "facade" {
                address.clear();
            }
        }
        self
    }

    /// The configured instance id, or a new one.
    #[must_use]
    pub fn instance(&self) -> String {
        if self.instance.is_empty() { uuid::Uuid::now_v7().to_string() } else { self.instance.clone() }
    }
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let listeners = self.listen.iter().map(|(service, address)| (format!("listen.{service}"), address));
        for (key, address) in listeners.chain([("admin_listen".to_owned(), &self.admin_listen)]) {
            if !address.is_empty() && address.parse::<SocketAddr>().is_err() {
                problems.push(
                    Problem::new(at, &key, "is not an address to listen at")
                        .hint("such as \"127.0.0.1:9102\", \"0.0.0.0:9102\", \"[::]:9102\", or \"\" for none"),
                );
            }
        }
        if !self.advertise.is_empty() {
            let endpoint = format!("{}:1", self.advertise).parse::<weir_discovery::Endpoint>();
            // An endpoint may have a scheme before it, a host may not.
            if self.advertise.contains('/') || endpoint.is_err() {
                problems
                    .push(Problem::new(at, "advertise", "is not a host").hint("a name or an address, without a port"));
            }
        }
        for (key, duration) in [
            ("drain", self.drain),
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("http.header_timeout", self.http.header_timeout),
        ] {
            if duration.is_zero() {
                problems.push(Problem::new(at, key, "must be longer than zero"));
            }
        }
        if self.shutdown_delay >= self.drain {
            problems.push(Problem::new(at, "shutdown_delay", "must be shorter than drain, which it is a part of"));
        }
        if self.probe_misses == 0 {
            problems.push(Problem::new(at, "probe_misses", "must be at least 1"));
        }
        // hyper refuses to start with a smaller buffer.
        if !(8192..=1 << 20).contains(&self.http.max_header_bytes) {
            problems.push(Problem::new(at, "http.max_header_bytes", "must be between 8192 and 1048576"));
        }
    }
}
