//! `[broker.routes]`: names that lead to models.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::optional_duration;
use super::providers::ProviderConfig;
use super::reuse::RouteCacheConfig;
use crate::domain::cache::RoutePolicy;
use crate::domain::catalogue::{Alias, Patience, Target};

/// One alias: `provider` and `model`, or `targets`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    targets: Vec<TargetConfig>,
    #[serde(default)]
    fallback: Vec<String>,
    #[serde(default)]
    non_critical: Option<String>,
    #[serde(default)]
    default_output_tokens: Option<i64>,
    #[serde(default)]
    input_bytes_per_token: Option<i64>,
    #[serde(default, deserialize_with = "optional_duration")]
    first_byte_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "optional_duration")]
    idle_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "optional_duration")]
    max_wait: Option<Duration>,
    #[serde(default)]
    cache: Option<RouteCacheConfig>,
}

/// One target of an alias.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    provider: String,
    model: String,
    #[serde(default = "one")]
    weight: u32,
}

const fn one() -> u32 {
    1
}

impl RouteConfig {
    fn targets(&self) -> Vec<Target> {
        let short = self.provider.iter().zip(&self.model).map(|(provider, model)| (provider, model, 1));
        let long = self.targets.iter().map(|target| (&target.provider, &target.model, target.weight));
        let target = |(provider, model, weight): (&String, &String, u32)| Target {
            provider: provider.clone(),
            model: model.clone(),
            weight,
        };
        short.chain(long).map(target).collect()
    }

    /// The alias `id`.
    pub(crate) fn alias(&self, id: &str) -> Alias {
        Alias {
            id: id.to_owned(),
            targets: self.targets(),
            fallback: self.fallback.clone(),
            non_critical: self.non_critical.clone(),
            default_output_tokens: self.default_output_tokens,
            input_bytes_per_token: self.input_bytes_per_token,
            patience: Patience {
                first_byte: self.first_byte_timeout,
                idle: self.idle_timeout,
                max_wait: self.max_wait,
            },
            reuse: self.cache.map(RoutePolicy::from).unwrap_or_default(),
        }
    }

    /// What is wrong with the route `name`, by `check(whether it is right, its key, what it must be)`.
    pub(super) fn validate(
        &self,
        name: &str,
        providers: &BTreeMap<String, ProviderConfig>,
        mut check: impl FnMut(bool, &str, &str),
    ) {
        let short = self.provider.is_some() && self.model.is_some() && self.targets.is_empty();
        let long = self.provider.is_none() && self.model.is_none() && !self.targets.is_empty();
        check(short || long, "targets", "needs either `provider` and `model`, or `targets`");
        for (at, target) in self.targets().iter().enumerate() {
            let key = if self.targets.is_empty() { "provider".to_owned() } else { format!("targets.{at}.provider") };
            let known = providers.contains_key(&target.provider);
            check(known, &key, "names no provider: add it under [broker.providers]");
            check(target.weight <= 1_000_000, &format!("targets.{at}.weight"), "must be at most 1000000");
        }
        let weighs = self.targets.is_empty() || self.targets.iter().any(|target| target.weight > 0);
        check(weighs, "targets", "at least one must have a weight above 0");
        check(self.fallback.len() <= 8, "fallback", "must have at most 8 names");
        check(!self.fallback.iter().any(|other| other == name), "fallback", "must not name the route itself");
        check(self.non_critical.as_deref() != Some(name), "non_critical", "must not name the route itself");
        let positive = |value: Option<i64>| value.is_none_or(|value| value > 0);
        check(positive(self.default_output_tokens), "default_output_tokens", "must be at least 1");
        check(positive(self.input_bytes_per_token), "input_bytes_per_token", "must be at least 1");
        let lasting = |span: Option<Duration>| span.is_none_or(|span| !span.is_zero());
        check(lasting(self.first_byte_timeout), "first_byte_timeout", "must not be zero");
        check(lasting(self.idle_timeout), "idle_timeout", "must not be zero");
        let month = Duration::from_secs(31 * 86_400);
        check(self.cache.is_none_or(|cache| cache.ttl <= month), "cache.ttl", "must be at most 31d");
    }
}
