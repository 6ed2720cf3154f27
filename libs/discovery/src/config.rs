//! The `[discovery]` section.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Secret, Validate};

use crate::Endpoint;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// Where the sibling services are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which directory.
    pub kind: Kind,
    /// Addresses by service, in the names of the configuration (`ai_broker`).
    pub services: BTreeMap<String, Vec<String>>,
    /// For [`Kind::Dns`].
    pub dns: DnsConfig,
    /// For [`Kind::Consul`].
    pub consul: ConsulConfig,
}

/// Which directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Static`](crate::Static).
    Static,
    /// [`Dns`](crate::Dns).
    Dns,
    /// [`Consul`](crate::Consul).
    Consul,
}

/// Of the DNS directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// How often names are looked up again.
    #[serde(with = "weir_config::duration")]
    pub interval: Duration,
}

/// Of the Consul directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulConfig {
    /// Consul's HTTP API.
    pub address: String,
    /// An ACL token, or empty.
    pub token: Secret,
    /// Before every service's name.
    pub prefix: String,
    /// An instance that is silent for this long is taken for dead.
    #[serde(with = "weir_config::duration")]
    pub ttl: Duration,
    /// How long a watch waits for a change before it asks anew.
    #[serde(with = "weir_config::duration")]
    pub wait: Duration,
}

impl Config {
    /// The addresses by the services' own names; those that are none are left out, [`Validate`] has named them.
    #[must_use]
    pub fn endpoints(&self) -> HashMap<String, Vec<Endpoint>> {
        self.services
            .iter()
            .map(|(service, addresses)| {
                (service.replace('_', "-"), addresses.iter().filter_map(|address| address.parse().ok()).collect())
            })
            .collect()
    }
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        for (service, addresses) in &self.services {
            for (i, address) in addresses.iter().enumerate() {
                if let Err(error) = address.parse::<Endpoint>() {
                    let message = if address.starts_with("https://") {
                        "services speak HTTP/2 without TLS to each other: let a mesh or a private network protect it"
                            .to_owned()
                    } else {
                        error.to_string()
                    };
                    problems.push(Problem::new(at, &format!("services.{service}[{i}]"), message));
                }
            }
        }
        if self.dns.interval.is_zero() {
            problems.push(Problem::new(at, "dns.interval", "must be longer than zero"));
        }
        if self.kind == Kind::Consul {
            if !matches!(url::Url::parse(&self.consul.address), Ok(url) if url.scheme() == "http" || url.scheme() == "https")
            {
                problems.push(
                    Problem::new(at, "consul.address", "is not the URL of an HTTP API").hint("http://127.0.0.1:8500"),
                );
            }
            if self.consul.ttl < Duration::from_secs(1) {
                problems.push(Problem::new(at, "consul.ttl", "must be at least 1s"));
            }
            if self.consul.wait < Duration::from_secs(1) || self.consul.wait > Duration::from_secs(600) {
                problems.push(Problem::new(at, "consul.wait", "must be between 1s and 10m"));
            }
        }
    }
}
