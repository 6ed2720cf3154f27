//! The facade's configuration: `config.defaults.toml` says what each key means.

use std::time::Duration;

use axum::http::HeaderValue;
use serde::Deserialize;
use weir_config::{Problem, Validate};

use crate::network::Network;

/// The facade's section, with its defaults.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The section `[facade]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(crate) max_body_bytes: usize,
    pub(crate) max_upload_bytes: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) body_pause: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) deadline: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) api_deadline: Duration,
    pub(crate) max_in_flight: usize,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    pub(crate) credential_cache: u64,
    #[serde(with = "weir_config::duration")]
    pub(crate) refused_for: Duration,
    pub(crate) trusted_proxies: Vec<Network>,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let mut check = |ok: bool, key: &str, message: &str| {
            if !ok {
                problems.push(Problem::new(at, key, message));
            }
        };
        check(self.max_body_bytes >= 1024, "max_body_bytes", "must be at least 1024");
        check(self.max_upload_bytes >= 1024, "max_upload_bytes", "must be at least 1024");
        for (key, duration) in
            [("body_pause", self.body_pause), ("deadline", self.deadline), ("api_deadline", self.api_deadline)]
        {
            check(!duration.is_zero(), key, "must be longer than zero");
        }
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        check((1..=most).contains(&self.max_in_flight), "max_in_flight", "must be at least 1, and not absurd");
        check(self.credential_cache > 0, "credential_cache", "must be at least 1");
        for origin in &self.cors_origins {
            check(
                is_origin(origin),
                "cors_origins",
                "must be origins such as https://app.example.com: scheme and host, no path, no wildcard",
            );
        }
    }
}

fn is_origin(text: &str) -> bool {
    let parsed = url::Url::parse(text).ok();
    let is_bare = parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.origin().ascii_serialization() == text
    });
    is_bare && HeaderValue::from_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        assert!(is_origin("https://app.example.com") && is_origin("http://localhost:3000"));
        for bad in ["*", "app.example.com", "https://app.example.com/", "https://a.b/path", "ftp://a.b"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
