//! `[broker.providers]`: who answers, and how it is reached.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_types::price::TIERS;

use super::keys::{KeyConfig, resolve};
use crate::domain::api::Dialect;

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
    #[serde(default = "defaults::service_tier")]
    pub(crate) service_tier: String,
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

impl ProviderConfig {
    /// What is wrong with the provider `name`, by `check(whether it is right, its key, what it must be)`.
    pub(super) fn check(&self, name: &str, check: &mut impl FnMut(bool, &str, &str)) {
        let uri = self.base_url.parse::<http::Uri>();
        let is_http = uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        check(is_http, &format!("providers.{name}.base_url"), "must be a URL that begins with http:// or https://");
        let header = self.key_header.as_deref().unwrap_or("authorization");
        check(
            http::HeaderName::try_from(header).is_ok(),
            &format!("providers.{name}.key_header"),
            "is not the name of a header",
        );
        check(
            format!("/?{}", self.query).parse::<http::Uri>().is_ok() && !self.query.contains(['?', '#']),
            &format!("providers.{name}.query"),
            "must be what stands behind the `?` of a URL",
        );
        check(!self.keys.is_empty(), &format!("providers.{name}.keys"), "must have at least one key");
        check(
            matches!(&*self.service_tier, "default" | "auto") || TIERS.contains(&&*self.service_tier),
            &format!("providers.{name}.service_tier"),
            &format!("must be one of default, auto, {}", TIERS.join(", ")),
        );
        check(self.input_bytes_per_token > 0, &format!("providers.{name}.input_bytes_per_token"), "must be at least 1");
        check(self.media_part_tokens >= 0, &format!("providers.{name}.media_part_tokens"), "must not be negative");
        for (key, config) in &self.keys {
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
}

/// What a provider gets that does not say otherwise; the commented example in the defaults file shows the same values.
mod defaults {
    use std::time::Duration;

    pub(super) fn max_tokens_field() -> String {
        "max_completion_tokens".into()
    }
    pub(super) fn service_tier() -> String {
        "default".into()
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
