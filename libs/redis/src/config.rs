use std::time::Duration;

use redis::IntoConnectionInfo as _;
use serde::Deserialize;
use weir_config::{Problem, Secret, Validate};

/// The commented defaults of the table `[redis]`.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// Where Redis is and how long a call may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `redis://`, `rediss://` or `redis+unix://`; with `cluster`, several nodes separated by commas.
    pub url: Secret,
    /// Whether `url` names nodes of a Redis Cluster.
    pub cluster: bool,
    /// How long one call may take, loading a script and waiting for a reconnect included.
    #[serde(with = "weir_config::duration")]
    pub deadline: Duration,
    /// Number of multiplexed connections, used in turns.
    pub connections: usize,
}

impl Config {
    /// The nodes that `url` names: one, or with `cluster` any number.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        let url = self.url.expose();
        // A password may hold a comma; only a cluster's URL is a list.
        let nodes = if self.cluster { url.split(',') } else { url.split('\n') };
        nodes.map(str::trim).filter(|node| !node.is_empty())
    }
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        if self.nodes().next().is_none() || self.nodes().any(|node| node.into_connection_info().is_err()) {
            let hint = "redis://[user:password@]host:port[/db], rediss://... or redis+unix:///path";
            problems.push(Problem::new(at, "url", "is not a Redis URL").hint(hint));
        }
        if self.deadline < Duration::from_millis(1) || self.deadline > Duration::from_secs(5) {
            let hint = "tens of milliseconds: requests wait for it";
            problems.push(Problem::new(at, "deadline", "must be between 1ms and 5s").hint(hint));
        }
        if self.connections == 0 || self.connections > 64 {
            problems.push(Problem::new(at, "connections", "must be between 1 and 64"));
        }
    }
}
