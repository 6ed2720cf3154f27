//! `[broker.jobs]`: work that outlives its request.

use std::time::Duration;

use serde::Deserialize;

use crate::app::jobs::{JobOptions, WebhookOptions};

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
    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
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
