//! `[broker.cache]`, what routes say of it, and `[broker.idempotency]`: answers that are used again.

use std::time::Duration;

use serde::Deserialize;

use crate::app::{CacheOptions, OnceOptions};
use crate::domain::cache::{RoutePolicy, Scope};

/// The table `[broker.cache]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheConfig {
    #[serde(with = "weir_config::duration")]
    deadline: Duration,
    max_entry_bytes: usize,
    max_tenant_bytes: usize,
    memory_bytes: u64,
    ignore: Vec<String>,
}

impl CacheConfig {
    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let millisecond = Duration::from_millis(1);
        check((millisecond..=1000 * millisecond).contains(&self.deadline), "cache.deadline", "must be from 1ms to 1s");
        let bytes = 1..=16 << 20;
        check(bytes.contains(&self.max_entry_bytes), "cache.max_entry_bytes", "must be from 1 to 16 MiB");
        let fits = self.max_tenant_bytes >= self.max_entry_bytes && self.max_tenant_bytes <= 1 << 40;
        check(fits, "cache.max_tenant_bytes", "must be from `cache.max_entry_bytes` to 1 TiB");
        check(self.memory_bytes <= 1 << 40, "cache.memory_bytes", "must be at most 1 TiB");
    }
}

impl From<&CacheConfig> for CacheOptions {
    fn from(config: &CacheConfig) -> Self {
        let CacheConfig { deadline, max_entry_bytes, max_tenant_bytes, memory_bytes, ignore } = config.clone();
        Self { deadline, max_entry_bytes, max_tenant_bytes, memory_bytes, ignore }
    }
}

/// What a route says of giving its answers again.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteCacheConfig {
    #[serde(default, with = "weir_config::duration")]
    pub(super) ttl: Duration,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    coalesce: bool,
}

impl From<RouteCacheConfig> for RoutePolicy {
    fn from(config: RouteCacheConfig) -> Self {
        let RouteCacheConfig { ttl, scope, coalesce } = config;
        Self { ttl, scope, coalesce }
    }
}

/// The table `[broker.idempotency]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdempotencyConfig {
    #[serde(with = "weir_config::duration")]
    retention: Duration,
    #[serde(with = "weir_config::duration")]
    lease: Duration,
    #[serde(with = "weir_config::duration")]
    wait: Duration,
    max_answer_bytes: usize,
}

impl IdempotencyConfig {
    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let second = Duration::from_secs(1);
        let month = 31 * 86_400 * second;
        check((60 * second..=month).contains(&self.retention), "idempotency.retention", "must be from 1m to 31d");
        check((second..=3600 * second).contains(&self.lease), "idempotency.lease", "must be from 1s to 1h");
        check(self.wait <= 3600 * second, "idempotency.wait", "must be at most 1h");
        let bytes = ..=16 << 20;
        check(bytes.contains(&self.max_answer_bytes), "idempotency.max_answer_bytes", "must be at most 16 MiB");
    }
}

impl From<&IdempotencyConfig> for OnceOptions {
    fn from(config: &IdempotencyConfig) -> Self {
        let IdempotencyConfig { retention, lease, wait, max_answer_bytes } = *config;
        Self { retention, lease, wait, max_answer_bytes }
    }
}
