//! Keys of providers, and their limits.

use serde::Deserialize;
use weir_config::Secret;

use crate::domain::keys::OwnLimits;

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

/// What quota counts a key's calls by: its name under the provider's, as long as a label may be.
pub(crate) fn key_label(provider: &str, key: &str) -> String {
    let name = format!("{provider}/{key}");
    name[..name.floor_char_boundary(128)].to_owned()
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
    fn a_keys_name_fits_into_a_label() {
        assert_eq!(key_label("openai", "main"), "openai/main");
        assert_eq!(key_label(&format!("{}/k", "ü".repeat(70)), "k").len(), 128);
    }
}
