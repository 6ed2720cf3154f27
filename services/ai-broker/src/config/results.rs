//! Where results are kept, and how.

use std::time::Duration;

use serde::Deserialize;
use weir_config::Secret;

use crate::app::results::ResultOptions;
use crate::domain::results::Bounds;
use crate::storage::objects::{Bucket, Place};

/// The table `[broker.results]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultsConfig {
    folder: String,
    bucket: BucketConfig,
    public_url: String,
    max_side: u32,
    max_bytes: usize,
    quality: f32,
    threads: usize,
    #[serde(with = "weir_config::duration")]
    timeout: Duration,
    #[serde(with = "weir_config::duration")]
    url_lifetime: Duration,
    #[serde(with = "weir_config::duration")]
    retention: Duration,
    #[serde(with = "weir_config::duration")]
    look: Duration,
    signing_version: u32,
}

/// The table `[broker.results.bucket]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketConfig {
    name: String,
    endpoint: String,
    region: String,
    access_key_id: Secret,
    secret_access_key: Secret,
}

impl ResultsConfig {
    /// Where objects lie; none: nowhere.
    pub(crate) fn place(&self) -> Option<Place> {
        let BucketConfig { name, endpoint, region, access_key_id, secret_access_key } = self.bucket.clone();
        match (self.folder.is_empty(), name.is_empty()) {
            (false, _) => Some(Place::Folder(self.folder.clone())),
            (true, false) => Some(Place::Bucket(Bucket { name, endpoint, region, access_key_id, secret_access_key })),
            (true, true) => None,
        }
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let second = Duration::from_secs(1);
        let one = self.folder.is_empty() || self.bucket.name.is_empty();
        check(one, "results.folder", "is set and so is `results.bucket.name`: set one of them");
        let is_http = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        check(is_http(&self.public_url), "results.public_url", "must begin with http:// or https://");
        let endpoint = &self.bucket.endpoint;
        check(endpoint.is_empty() || is_http(endpoint), "results.bucket.endpoint", "must begin with https://");
        check((16..=16_384).contains(&self.max_side), "results.max_side", "must be from 16 to 16384");
        check((1024..=33_554_432).contains(&self.max_bytes), "results.max_bytes", "must be from 1024 to 33554432");
        check((0.01..=1.0).contains(&self.quality), "results.quality", "must be from 0.01 to 1");
        check((1..=256).contains(&self.threads), "results.threads", "must be from 1 to 256");
        check((second..=600 * second).contains(&self.timeout), "results.timeout", "must be from 1s to 600s");
        check(self.url_lifetime >= second, "results.url_lifetime", "must be at least 1s");
        check(self.retention >= second, "results.retention", "must be at least 1s");
        check((second / 100..=3600 * second).contains(&self.look), "results.look", "must be from 10ms to 1h");
        check(self.signing_version > 0, "results.signing_version", "must be at least 1");
    }
}

impl From<&ResultsConfig> for ResultOptions {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 100")]
    fn from(config: &ResultsConfig) -> Self {
        Self {
            public_url: config.public_url.clone(),
            bounds: Bounds {
                side: config.max_side,
                bytes: config.max_bytes,
                quality: (config.quality * 100.0).round() as u8,
            },
            threads: config.threads,
            url_lifetime: config.url_lifetime,
            retention: config.retention,
            look: config.look,
            signing_version: config.signing_version,
        }
    }
}
