//! The table `[quota]`; `config.defaults.toml` explains every key.

mod shared;

use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Validate};

use crate::domain::Tuning;
use crate::storage::memory::Ownership;
pub use shared::{Amount, SharedLimit, SharedWindow, Slices, WhenDown};

/// The commented defaults of the table `[quota]`.
pub const DEFAULTS: &str = include_str!("../../config.defaults.toml");

/// The table `[quota]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Limits across tenants.
    pub shared: Vec<SharedLimit>,
    /// How quota processes share those.
    pub slices: Slices,
    /// Where limits are counted.
    pub store: StoreKind,
    /// How, if that is in memory.
    pub memory: Memory,
    /// The organisations' limits.
    pub entitlements: Entitlements,
    /// How finely windows count.
    pub windows: Windows,
    /// What happens when the fast store has lost its data.
    pub rebuild: Rebuild,
    /// What is admitted while the fast store does not answer.
    pub failure: Failure,
    /// Soft alerts.
    pub alerts: Alerts,
    /// The log of refusals.
    pub refusals: Refusals,
    /// How settlements are written and kept.
    pub settlements: Settlements,
    /// How much is worked on at once.
    pub operations: Operations,
    /// What is deleted when.
    pub housekeeping: Housekeeping,
}

/// Where limits are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In Redis, for any number of processes.
    Redis,
    /// In this process, which is the only one.
    Memory,
}

/// The table `[quota.memory]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// How much counters and reservations may take.
    pub max_megabytes: usize,
}

impl Memory {
    /// The same in bytes.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.max_megabytes.saturating_mul(1_000_000)
    }
}

/// The table `[quota.entitlements]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitlements {
    /// How many organisations are kept in memory.
    pub cache: u64,
    /// How old a copy gets.
    #[serde(with = "weir_config::duration")]
    pub refresh_every: Duration,
    /// How long billing may take.
    #[serde(with = "weir_config::duration")]
    pub timeout: Duration,
}

/// The table `[quota.windows]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Up to which cap rolling limits are exact.
    pub exact_up_to: i64,
    /// In how many buckets the others count.
    pub buckets: i64,
}

impl Windows {
    /// As plans take it.
    #[must_use]
    pub const fn tuning(&self) -> Tuning {
        Tuning { exact_up_to: self.exact_up_to, buckets: self.buckets }
    }
}

/// The table `[quota.rebuild]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// How often to look.
    #[serde(with = "weir_config::duration")]
    pub check_every: Duration,
    /// For how long money stays closed.
    #[serde(with = "weir_config::duration")]
    pub window: Duration,
}

/// The table `[quota.failure]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Which share of a cap each process admits.
    pub local_share: f64,
    /// How many counters it keeps for that.
    pub counters: usize,
}

/// The table `[quota.alerts]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// How many may wait.
    pub queue: usize,
    /// How many counters are remembered.
    pub remember: u64,
    /// How often a stream looks.
    #[serde(with = "weir_config::duration")]
    pub poll_every: Duration,
    /// How often it says that it is there.
    #[serde(with = "weir_config::duration")]
    pub heartbeat: Duration,
    /// How many streams there may be.
    pub watchers: usize,
    /// How long alerts are kept.
    #[serde(with = "weir_config::duration")]
    pub retention: Duration,
}

/// The table `[quota.refusals]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    /// How many of an organisation are written at once.
    pub burst: u32,
    /// And how many a minute.
    pub per_minute: u32,
    /// How many may wait.
    pub queue: usize,
    /// How long they are kept.
    #[serde(with = "weir_config::duration")]
    pub retention: Duration,
}

/// The table `[quota.settlements]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlements {
    /// How many may wait.
    pub queue: usize,
    /// How many are written at once.
    pub batch: usize,
    /// By how many writers.
    pub writers: usize,
    /// How long the fast store remembers them.
    #[serde(with = "weir_config::duration")]
    pub remember: Duration,
    /// How long Postgres keeps them.
    #[serde(with = "weir_config::duration")]
    pub retention: Duration,
}

/// The table `[quota.operations]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// Reservations at once, of all callers.
    pub in_flight: usize,
    /// Operations of one stream at once.
    pub per_stream: usize,
    /// How long one operation of a stream may take.
    #[serde(with = "weir_config::duration")]
    pub timeout: Duration,
    /// How old a stream gets.
    #[serde(with = "weir_config::duration")]
    pub stream_age: Duration,
}

/// The table `[quota.housekeeping]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Housekeeping {
    /// How often.
    #[serde(with = "weir_config::duration")]
    pub every: Duration,
    /// How long past totals are kept.
    #[serde(with = "weir_config::duration")]
    pub counter_retention: Duration,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let spans = [
            ("slices.lease", self.slices.lease, second / 2, 600 * second),
            ("slices.report_every", self.slices.report_every, second / 200, second),
            ("slices.wait", self.slices.wait, second / 100, 10 * second),
            ("entitlements.refresh_every", self.entitlements.refresh_every, second, day),
            ("entitlements.timeout", self.entitlements.timeout, second / 100, 30 * second),
            ("rebuild.check_every", self.rebuild.check_every, second / 100, 10 * second),
            ("rebuild.window", self.rebuild.window, second / 10, 600 * second),
            ("alerts.poll_every", self.alerts.poll_every, second / 100, 60 * second),
            ("alerts.heartbeat", self.alerts.heartbeat, second / 10, 60 * second),
            ("alerts.retention", self.alerts.retention, day, 3_660 * day),
            ("refusals.retention", self.refusals.retention, second, 3_660 * day),
            ("settlements.remember", self.settlements.remember, second, day),
            ("settlements.retention", self.settlements.retention, day, 3_660 * day),
            ("operations.timeout", self.operations.timeout, second / 100, 600 * second),
            ("operations.stream_age", self.operations.stream_age, second, day),
            ("housekeeping.every", self.housekeeping.every, second / 10, day),
            ("housekeeping.counter_retention", self.housekeeping.counter_retention, day, 3_660 * day),
        ];
        for (key, value, least, most) in spans {
            if !(least..=most).contains(&value) {
                let format = weir_config::duration::format;
                let problem = Problem::new(at, key, format!("{} is out of bounds", format(value)));
                problems.push(problem.hint(format!("from {} to {}", format(least), format(most))));
            }
        }
        if self.slices.lease < 4 * self.slices.report_every {
            let problem = Problem::new(at, "slices.lease", "a slice would be lost before the process says anything");
            problems.push(problem.hint("at least four times slices.report_every"));
        }
        if self.slices.lease > self.rebuild.window {
            let problem =
                Problem::new(at, "slices.lease", "old slices would be given out after a loss has been rebuilt");
            problems.push(problem.hint("at most rebuild.window"));
        }
        shared::validate(&self.shared, at, problems);
        let overlap = Ownership::good_for(self.rebuild.check_every);
        if self.store == StoreKind::Memory && self.rebuild.window < overlap {
            // The one before may admit for so long after it has lost the counters.
            let format = weir_config::duration::format;
            let problem = Problem::new(at, "rebuild.window", "is too short for counters in memory");
            problems.push(problem.hint(format!("at least {}, or a shorter rebuild.check_every", format(overlap))));
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let numbers = [
            ("memory.max_megabytes", count(self.memory.max_megabytes), 1, 10_000_000),
            ("entitlements.cache", i64::try_from(self.entitlements.cache).unwrap_or(i64::MAX), 1, 100_000_000),
            ("windows.exact_up_to", self.windows.exact_up_to, 0, 1_000),
            ("windows.buckets", self.windows.buckets, 4, 1_000),
            ("failure.counters", count(self.failure.counters), 0, 10_000_000),
            ("alerts.queue", count(self.alerts.queue), 1, 10_000_000),
            ("alerts.remember", i64::try_from(self.alerts.remember).unwrap_or(i64::MAX), 1, 100_000_000),
            ("alerts.watchers", count(self.alerts.watchers), 0, 10_000),
            ("refusals.burst", i64::from(self.refusals.burst), 1, 1_000_000),
            ("refusals.per_minute", i64::from(self.refusals.per_minute), 1, 60_000),
            ("refusals.queue", count(self.refusals.queue), 1, 1_000_000),
            ("settlements.queue", count(self.settlements.queue), 1, 10_000_000),
            // A script takes about a thousand keys and values at once.
            ("settlements.batch", count(self.settlements.batch), 1, 1_000),
            ("settlements.writers", count(self.settlements.writers), 1, 64),
            ("operations.in_flight", count(self.operations.in_flight), 1, 1_000_000),
            ("operations.per_stream", count(self.operations.per_stream), 1, 100_000),
        ];
        if !(0.0..=1.0).contains(&self.failure.local_share) {
            let problem =
                Problem::new(at, "failure.local_share", format!("{} is out of bounds", self.failure.local_share));
            problems.push(problem.hint("from 0 to 1"));
        }
        for (key, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                let problem = Problem::new(at, key, format!("{value} is out of bounds"));
                problems.push(problem.hint(format!("from {least} to {most}")));
            }
        }
    }
}
