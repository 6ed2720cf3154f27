//! The broker's configuration: `config.defaults.toml` says what each key means.

mod jobs;
mod keys;
pub(crate) mod load;
mod own_keys;
mod providers;
mod queue;
mod results;
mod reuse;
mod routes;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Validate};

use crate::domain::keys::Rests;
use jobs::JobsConfig;
pub use keys::{KeyConfig, LimitedKey};
pub(crate) use keys::{key_label, resolve};
use load::LoadConfig;
pub(crate) use own_keys::OwnKeysConfig;
pub use providers::ProviderConfig;
pub(crate) use queue::QueueConfig;
use results::ResultsConfig;
use reuse::{CacheConfig, IdempotencyConfig};
pub use routes::{RouteConfig, TargetConfig};

/// The broker's section, with its defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The tables of [`DEFAULTS`] whose keys are free.
pub const OPEN_TABLES: &[&str] = &["broker.providers", "broker.routes", "broker.own_keys.master_keys"];

/// The section `[broker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(with = "weir_config::duration")]
    pub(crate) lease: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) lease_check: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) take_over_check: Duration,
    pub(crate) max_attempts: u32,
    pub(crate) max_unsettled: u32,
    #[serde(with = "weir_config::duration")]
    pub(crate) settle_linger: Duration,
    pub(crate) settle_batch: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) drain: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) reserve_deadline: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) price_check: Duration,
    pub(crate) rests: RestsConfig,
    pub(crate) queue: QueueConfig,
    pub(crate) jobs: JobsConfig,
    pub(crate) own_keys: OwnKeysConfig,
    pub(crate) load: LoadConfig,
    pub(crate) idempotency: IdempotencyConfig,
    pub(crate) results: ResultsConfig,
    pub(crate) cache: CacheConfig,
    /// Providers by name.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Aliases by name.
    pub routes: BTreeMap<String, RouteConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestsConfig {
    #[serde(with = "weir_config::duration")]
    rate_limited: Duration,
    #[serde(with = "weir_config::duration")]
    refused: Duration,
    #[serde(with = "weir_config::duration")]
    failed: Duration,
    #[serde(with = "weir_config::duration")]
    failed_most: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) probe: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) look: Duration,
}

impl From<&RestsConfig> for Rests {
    fn from(config: &RestsConfig) -> Self {
        Self {
            rate_limited: config.rate_limited,
            refused: config.refused,
            failed: config.failed,
            failed_most: config.failed_most,
            probe: config.probe,
        }
    }
}

impl Config {
    /// Tells configurations apart that differ in what a running broker takes over: providers, keys (also what the files say that
    /// they are in), routes, and the master keys of callers' own keys.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        // Debug output shows every field but secrets.
        context.update(format!("{:?}{:?}", self.providers, self.routes).as_bytes());
        for key in self.providers.values().flat_map(|provider| provider.keys.values()) {
            context.update(key.secret().expose().as_bytes());
            context.update(&[0]);
            context.update(resolve(key.secret()).unwrap_or_default().as_bytes());
            context.update(&[0]);
        }
        self.own_keys.add_to(&mut context);
        context.finish().as_ref().try_into().unwrap_or([0; 32])
    }

    /// Whether a folder or a bucket for results is named.
    #[must_use]
    pub fn stores_results(&self) -> bool {
        self.results.place().is_some()
    }
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    weir_config::duration::deserialize(deserializer).map(Some)
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let mut check = |ok: bool, key: &str, message: &str| {
            if !ok {
                problems.push(Problem::new(at, key, message));
            }
        };
        let second = Duration::from_secs(1);
        check((second..=3600 * second).contains(&self.lease), "lease", "must be from 1s to 1h");
        check(self.lease_check * 3 <= self.lease, "lease_check", "must be at most a third of `lease`");
        check(!self.lease_check.is_zero(), "lease_check", "must not be zero");
        check(!self.take_over_check.is_zero(), "take_over_check", "must not be zero");
        check(!self.price_check.is_zero(), "price_check", "must not be zero");
        check((1..=10).contains(&self.max_attempts), "max_attempts", "must be from 1 to 10");
        check(self.max_unsettled > 0, "max_unsettled", "must be at least 1");
        check((1..=1000).contains(&self.settle_batch), "settle_batch", "must be from 1 to 1000");
        check((second / 100..=second).contains(&self.rests.look), "rests.look", "must be from 10ms to 1s");
        check((1..=1_000_000).contains(&self.queue.capacity), "queue.capacity", "must be from 1 to 1000000");
        check((1..=1_000).contains(&self.queue.turns), "queue.turns", "must be from 1 to 1000");
        check((second / 100..=60 * second).contains(&self.queue.turn), "queue.turn", "must be from 10ms to 60s");
        check((second / 1000..=second).contains(&self.queue.look), "queue.look", "must be from 1ms to 1s");
        check((second / 100..=60 * second).contains(&self.queue.beat), "queue.beat", "must be from 10ms to 60s");
        self.jobs.check(&mut check);
        self.own_keys.check(&mut check);
        self.load.check(&mut check);
        self.idempotency.check(&mut check);
        self.results.check(&mut check);
        self.cache.check(&mut check);
        for (name, provider) in &self.providers {
            provider.check(name, &mut check);
        }
        for (name, route) in &self.routes {
            let at = |key: &str| format!("routes.{name}.{key}");
            route.validate(name, &self.providers, |ok, key, message| check(ok, &at(key), message));
        }
    }
}
