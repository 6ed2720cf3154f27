//! The broker's configuration: `config.defaults.toml` says what each key means.

pub(crate) mod load;
mod own_keys;
mod results;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Secret, Validate};
use weir_types::unit;

use crate::app::jobs::{JobOptions, WebhookOptions};
use crate::app::{CacheOptions, OnceOptions, QueueOptions};
use crate::domain::api::Dialect;
use crate::domain::cache::{RoutePolicy, Scope};
use crate::domain::catalogue::{Alias, Patience, Target};
use crate::domain::keys::{OwnLimits, Rests};
use crate::domain::queue::{Millis, Rules};
use load::LoadConfig;
pub(crate) use own_keys::OwnKeysConfig;
use results::ResultsConfig;

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

/// The table `[broker.jobs]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobsConfig {
    concurrency: usize,
    waiting: usize,
    #[serde(with = "weir_config::duration")]
    poll: Duration,
    #[serde(with = "weir_config::duration")]
    lease: Duration,
    #[serde(with = "weir_config::duration")]
    beat: Duration,
    max_losses: i16,
    #[serde(with = "weir_config::duration")]
    max_age: Duration,
    max_result_bytes: usize,
    #[serde(with = "weir_config::duration")]
    aging: Duration,
    #[serde(with = "weir_config::duration")]
    spacing: Duration,
    #[serde(with = "weir_config::duration")]
    retention: Duration,
    watchers: usize,
    schedules: i64,
    webhooks: WebhooksConfig,
}

/// The table `[broker.jobs.webhooks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhooksConfig {
    allow_private: bool,
    #[serde(with = "weir_config::duration")]
    timeout: Duration,
    max_attempts: u16,
    #[serde(with = "weir_config::duration")]
    backoff: Duration,
    concurrency: usize,
}

impl JobsConfig {
    fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let second = Duration::from_secs(1);
        let day = 86_400 * second;
        check((1..=100_000).contains(&self.concurrency), "jobs.concurrency", "must be from 1 to 100000");
        check(self.waiting <= 100_000, "jobs.waiting", "must be at most 100000");
        check((second / 100..=60 * second).contains(&self.poll), "jobs.poll", "must be from 10ms to 60s");
        check((second..=3600 * second).contains(&self.lease), "jobs.lease", "must be from 1s to 1h");
        check(
            !self.beat.is_zero() && self.beat * 3 <= self.lease,
            "jobs.beat",
            "must be at most a third of `jobs.lease`",
        );
        check((0..=1000).contains(&self.max_losses), "jobs.max_losses", "must be from 0 to 1000");
        check((second..=365 * day).contains(&self.max_age), "jobs.max_age", "must be from 1s to 365d");
        let bytes = 1 << 10..=64 << 20;
        check(bytes.contains(&self.max_result_bytes), "jobs.max_result_bytes", "must be from 1 KiB to 64 MiB");
        check(self.aging <= day, "jobs.aging", "must be at most 1d");
        check(self.spacing <= 60 * second, "jobs.spacing", "must be at most 60s");
        check((second..=3660 * day).contains(&self.retention), "jobs.retention", "must be from 1s to 3660d");
        check((0..=1_000_000).contains(&self.schedules), "jobs.schedules", "must be from 0 to 1000000");
        let webhooks = &self.webhooks;
        check((1..=20).contains(&webhooks.max_attempts), "jobs.webhooks.max_attempts", "must be from 1 to 20");
        check((1..=10_000).contains(&webhooks.concurrency), "jobs.webhooks.concurrency", "must be from 1 to 10000");
        let timeout = second / 100..=300 * second;
        check(timeout.contains(&webhooks.timeout), "jobs.webhooks.timeout", "must be from 10ms to 300s");
        check(webhooks.backoff <= 3600 * second, "jobs.webhooks.backoff", "must be at most 1h");
    }
}

impl From<&JobsConfig> for JobOptions {
    fn from(config: &JobsConfig) -> Self {
        let webhooks = &config.webhooks;
        Self {
            concurrency: config.concurrency,
            waiting: config.waiting,
            poll: config.poll,
            lease: config.lease,
            beat: config.beat,
            max_losses: config.max_losses,
            max_age: config.max_age,
            max_result_bytes: config.max_result_bytes,
            aging: config.aging,
            spacing: config.spacing,
            retention: config.retention,
            watchers: config.watchers,
            schedules: config.schedules,
            webhooks: WebhookOptions {
                allow_private: webhooks.allow_private,
                timeout: webhooks.timeout,
                max_attempts: webhooks.max_attempts,
                backoff: webhooks.backoff,
                concurrency: webhooks.concurrency,
            },
        }
    }
}

/// The table `[broker.cache]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheConfig {
    #[serde(with = "weir_config::duration")]
    deadline: Duration,
    max_entry_bytes: usize,
    max_tenant_bytes: usize,
    ignore: Vec<String>,
}

impl CacheConfig {
    fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let millisecond = Duration::from_millis(1);
        check((millisecond..=1000 * millisecond).contains(&self.deadline), "cache.deadline", "must be from 1ms to 1s");
        let bytes = 1..=16 << 20;
        check(bytes.contains(&self.max_entry_bytes), "cache.max_entry_bytes", "must be from 1 to 16 MiB");
        let fits = self.max_tenant_bytes >= self.max_entry_bytes && self.max_tenant_bytes <= 1 << 40;
        check(fits, "cache.max_tenant_bytes", "must be from `cache.max_entry_bytes` to 1 TiB");
    }
}

impl From<&CacheConfig> for CacheOptions {
    fn from(config: &CacheConfig) -> Self {
        let CacheConfig { deadline, max_entry_bytes, max_tenant_bytes, ignore } = config.clone();
        Self { deadline, max_entry_bytes, max_tenant_bytes, ignore }
    }
}

/// What a route says of giving its answers again.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteCacheConfig {
    #[serde(default, with = "weir_config::duration")]
    ttl: Duration,
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
    fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
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

/// A limit of one key, for quota to hold over all brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLimit {
    /// Unique among them; letters, digits, `-`, `_` and `.`, at most 63.
    pub name: String,
    /// What calls with the key are labelled with.
    pub key: String,
    /// What is counted: requests, tokens, or calls under way.
    pub unit: &'static str,
    /// How much of it: in a minute, or at once.
    pub amount: i64,
}

impl Config {
    /// The limits that keys have of their own.
    #[must_use]
    pub fn key_limits(&self) -> Vec<KeyLimit> {
        let mut limits = Vec::new();
        for (provider, key, config) in
            self.providers.iter().flat_map(|(name, provider)| provider.keys.iter().map(move |(key, c)| (name, key, c)))
        {
            let own = config.limits();
            for (unit, amount) in [
                (unit::REQUEST, own.requests_per_minute),
                (unit::TOKEN, own.tokens_per_minute),
                (unit::CONCURRENT, own.concurrency),
            ] {
                if let Some(amount) = amount {
                    let label = key_label(provider, key);
                    limits.push(KeyLimit { name: limit_name(&label, unit), key: label, unit, amount });
                }
            }
        }
        limits
    }

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
}

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// For instance `https://api.openai.com/v1`.
    pub base_url: String,
    /// The price list whose models it serves.
    pub price_list: String,
    /// Keys by name.
    pub keys: BTreeMap<String, KeyConfig>,
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

/// One key: its secret alone, or with limits of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum KeyConfig {
    /// A text, `env:NAME` or `file:PATH`.
    Secret(Secret),
    /// With limits.
    Limited(LimitedKey),
}

/// A key with limits of its own; what is unset is not limited.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitedKey {
    /// As in [`KeyConfig::Secret`].
    secret: Secret,
    #[serde(default)]
    requests_per_minute: Option<i64>,
    #[serde(default)]
    tokens_per_minute: Option<i64>,
    #[serde(default)]
    concurrency: Option<i64>,
}

impl KeyConfig {
    pub(crate) const fn secret(&self) -> &Secret {
        match self {
            Self::Secret(secret) | Self::Limited(LimitedKey { secret, .. }) => secret,
        }
    }

    pub(crate) fn limits(&self) -> OwnLimits {
        match self {
            Self::Secret(_) => OwnLimits::default(),
            Self::Limited(LimitedKey { requests_per_minute, tokens_per_minute, concurrency, .. }) => OwnLimits {
                requests_per_minute: *requests_per_minute,
                tokens_per_minute: *tokens_per_minute,
                concurrency: *concurrency,
            },
        }
    }
}

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
    #[serde(default = "defaults::weight")]
    weight: u32,
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    weir_config::duration::deserialize(deserializer).map(Some)
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

    fn validate(
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

/// What a provider gets that does not say otherwise; the commented example in the defaults file shows the same values.
mod defaults {
    use std::time::Duration;

    pub(super) const fn weight() -> u32 {
        1
    }
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
            for (key, config) in &provider.keys {
                let at = format!("providers.{name}.keys.{key}");
                let limits = config.limits();
                let positive = |limit: Option<i64>| limit.is_none_or(|limit| limit > 0);
                check(positive(limits.requests_per_minute), &format!("{at}.requests_per_minute"), "must be at least 1");
                check(positive(limits.tokens_per_minute), &format!("{at}.tokens_per_minute"), "must be at least 1");
                check(positive(limits.concurrency), &format!("{at}.concurrency"), "must be at least 1");
                match resolve(config.secret()) {
                    Ok(text) => check(
                        http::HeaderValue::from_str(&text).is_ok() && !text.is_empty(),
                        &at,
                        "is not usable as a key: empty, or with characters that a header can't carry",
                    ),
                    Err(missing) => check(false, &at, &format!("{missing}: add it, or remove the key")),
                }
            }
        }
        for (name, route) in &self.routes {
            let at = |key: &str| format!("routes.{name}.{key}");
            route.validate(name, &self.providers, |ok, key, message| check(ok, &at(key), message));
        }
    }
}

/// What quota counts a key's calls by: its name under the provider's, as long as a label may be.
pub(crate) fn key_label(provider: &str, key: &str) -> String {
    let name = format!("{provider}/{key}");
    name[..name.floor_char_boundary(128)].to_owned()
}

/// The name of a limit of a key: readable where it can be, and another one for each.
fn limit_name(label: &str, unit: &str) -> String {
    let plain = format!("key.{}.{unit}", label.replacen('/', ".", 1));
    let fits = plain.len() <= 63 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        return plain;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, label.as_bytes());
    let tag: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("key.{tag}.{unit}")
}

/// The text itself, that of an environment variable (`env:NAME`) or that of a file (`file:PATH`); else what is missing.
pub(crate) fn resolve(secret: &Secret) -> Result<String, String> {
    if let Some(variable) = secret.expose().strip_prefix("env:") {
        return std::env::var(variable).map_err(|_| format!("the environment variable {variable} is not set"));
    }
    if let Some(path) = secret.expose().strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("the file {path} can't be read ({error})"))?;
        return Ok(text.trim().to_owned());
    }
    Ok(secret.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_keys_have_names_that_limits_may_have() {
        assert_eq!(limit_name("openai/main", "request"), "key.openai.main.request");
        for label in ["open ai/main", &"x".repeat(100)] {
            let name = limit_name(label, "concurrent");
            assert!(
                name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            );
            assert_ne!(name, limit_name(&format!("{label}s"), "concurrent"));
        }
        let long = format!("{}/k", "ü".repeat(70));
        assert_eq!(key_label(&long, "k").len(), 128);
    }
}
