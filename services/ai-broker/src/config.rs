//! The broker's configuration: `config.defaults.toml` says what each key means.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Secret, Validate};

use crate::app::QueueOptions;
use crate::domain::api::Dialect;
use crate::domain::key_pool::Rests;
use crate::domain::queue::{Millis, Rules};

/// The broker's section, with its defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The tables of [`DEFAULTS`] whose keys are free.
pub const OPEN_TABLES: &[&str] = &["broker.providers", "broker.routes"];

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
    probe: Duration,
}

/// The table `[broker.queue]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    pub(crate) capacity: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) aging: Duration,
    pub(crate) turns: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) turn: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) look: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) beat: Duration,
}

impl QueueConfig {
    /// The line's rules.
    pub(crate) fn rules(&self) -> Rules {
        let millis = |span: Duration| Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX);
        Rules { capacity: self.capacity, aging: millis(self.aging), turn: millis(self.turn) }
    }

    /// A broker that has said nothing for so long is taken for dead.
    pub(crate) fn lease(&self) -> Duration {
        5 * self.beat
    }
}

impl From<&QueueConfig> for QueueOptions {
    fn from(config: &QueueConfig) -> Self {
        Self { turns: config.turns, look: config.look, beat: config.beat }
    }
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

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// For instance `https://api.openai.com/v1`.
    pub base_url: String,
    /// The price list whose models it serves.
    pub price_list: String,
    /// Keys by name: a text, or `env:NAME`.
    pub keys: BTreeMap<String, Secret>,
    #[serde(default)]
    pub(crate) dialect: Dialect,
    /// The header of the key; the dialect's own if unset.
    #[serde(default)]
    pub(crate) key_header: Option<String>,
    #[serde(default)]
    pub(crate) query: String,
    #[serde(default = "defaults::effort_models")]
    pub(crate) effort_models: Vec<String>,
    #[serde(default)]
    pub(crate) drop_fields: Vec<String>,
    #[serde(default = "defaults::max_tokens_field")]
    pub(crate) max_tokens_field: String,
    #[serde(default = "defaults::input_bytes_per_token")]
    pub(crate) input_bytes_per_token: i64,
    #[serde(default = "defaults::media_part_tokens")]
    pub(crate) media_part_tokens: i64,
    #[serde(default = "defaults::connect_timeout", with = "weir_config::duration")]
    pub(crate) connect_timeout: Duration,
    #[serde(default = "defaults::first_byte_timeout", with = "weir_config::duration")]
    pub(crate) first_byte_timeout: Duration,
    #[serde(default = "defaults::idle_timeout", with = "weir_config::duration")]
    pub(crate) idle_timeout: Duration,
    #[serde(default = "defaults::max_wait", with = "weir_config::duration")]
    pub(crate) max_wait: Duration,
}

/// One alias.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    pub(crate) provider: String,
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) default_output_tokens: Option<i64>,
    #[serde(default)]
    pub(crate) input_bytes_per_token: Option<i64>,
}

/// What a provider gets that does not say otherwise; the commented example in the defaults file shows the same values.
mod defaults {
    use std::time::Duration;

    pub(super) fn max_tokens_field() -> String {
        "max_completion_tokens".into()
    }
    pub(super) fn effort_models() -> Vec<String> {
        let families =
            ["claude-opus-4-6*", "claude-opus-4-7*", "claude-opus-4-8*", "claude-opus-5*", "claude-sonnet-4-6*"];
        let newer = ["claude-sonnet-5*", "claude-haiku-5*", "claude-fable-*"];
        families.into_iter().chain(newer).map(str::to_owned).collect()
    }
    pub(super) const fn input_bytes_per_token() -> i64 {
        1
    }
    pub(super) const fn media_part_tokens() -> i64 {
        50_000
    }
    pub(super) const fn connect_timeout() -> Duration {
        Duration::from_secs(5)
    }
    pub(super) const fn first_byte_timeout() -> Duration {
        Duration::from_secs(120)
    }
    pub(super) const fn idle_timeout() -> Duration {
        Duration::from_secs(60)
    }
    pub(super) const fn max_wait() -> Duration {
        Duration::from_secs(30)
    }
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
        check((1..=1_000_000).contains(&self.queue.capacity), "queue.capacity", "must be from 1 to 1000000");
        check((1..=1_000).contains(&self.queue.turns), "queue.turns", "must be from 1 to 1000");
        check((second / 100..=60 * second).contains(&self.queue.turn), "queue.turn", "must be from 10ms to 60s");
        check((second / 1000..=second).contains(&self.queue.look), "queue.look", "must be from 1ms to 1s");
        check((second / 100..=60 * second).contains(&self.queue.beat), "queue.beat", "must be from 10ms to 60s");
        for (name, provider) in &self.providers {
            let uri = provider.base_url.parse::<http::Uri>();
            let is_http =
                uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
            check(is_http, &format!("providers.{name}.base_url"), "must be a URL that begins with http:// or https://");
            let header = provider.key_header.as_deref().unwrap_or("authorization");
            check(
                http::HeaderName::try_from(header).is_ok(),
                &format!("providers.{name}.key_header"),
                "is not the name of a header",
            );
            check(
                format!("/?{}", provider.query).parse::<http::Uri>().is_ok() && !provider.query.contains(['?', '#']),
                &format!("providers.{name}.query"),
                "must be what stands behind the `?` of a URL",
            );
            check(!provider.keys.is_empty(), &format!("providers.{name}.keys"), "must have at least one key");
            check(
                provider.input_bytes_per_token > 0,
                &format!("providers.{name}.input_bytes_per_token"),
                "must be at least 1",
            );
            check(
                provider.media_part_tokens >= 0,
                &format!("providers.{name}.media_part_tokens"),
                "must not be negative",
            );
            for (key, secret) in &provider.keys {
                let at = format!("providers.{name}.keys.{key}");
                match resolve(secret) {
                    Ok(text) => check(
                        http::HeaderValue::from_str(&text).is_ok() && !text.is_empty(),
                        &at,
                        "is not usable as a key: empty, or with characters that a header can't carry",
                    ),
                    Err(variable) => check(
                        false,
                        &at,
                        &format!("the environment variable {variable} is not set: set it, or remove the key"),
                    ),
                }
            }
        }
        for (name, route) in &self.routes {
            let known = self.providers.contains_key(&route.provider);
            check(known, &format!("routes.{name}.provider"), "names no provider: add it under [broker.providers]");
            let positive = |value: Option<i64>| value.is_none_or(|value| value > 0);
            check(
                positive(route.default_output_tokens),
                &format!("routes.{name}.default_output_tokens"),
                "must be at least 1",
            );
            check(
                positive(route.input_bytes_per_token),
                &format!("routes.{name}.input_bytes_per_token"),
                "must be at least 1",
            );
        }
    }
}

/// The key's own text, or the name of the environment variable that should have it and does not exist.
pub(crate) fn resolve(secret: &Secret) -> Result<String, String> {
    match secret.expose().strip_prefix("env:") {
        Some(variable) => std::env::var(variable).map_err(|_| variable.to_owned()),
        None => Ok(secret.expose().to_owned()),
    }
}
