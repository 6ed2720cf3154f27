//! Keys of providers, and their limits.

use serde::Deserialize;
use weir_config::Secret;
use weir_types::unit;

use super::Config;
use crate::domain::keys::OwnLimits;

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
