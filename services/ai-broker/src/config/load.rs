//! `[broker.load]`: what is done when there is more to do than can be done.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::load::Threshold;

/// The most levels.
const MOST_LEVELS: usize = 10;

/// The table `[broker.load]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadConfig {
    #[serde(with = "weir_config::duration")]
    pub(crate) measure: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) hold: Duration,
    pub(crate) leave_percent: u32,
    pub(crate) core: Vec<String>,
    pub(crate) levels: Vec<LevelConfig>,
}

/// One of `[[broker.load.levels]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LevelConfig {
    pub(crate) name: String,
    #[serde(default)]
    in_flight: Option<usize>,
    #[serde(default)]
    cpu_percent: Option<u32>,
    #[serde(default, deserialize_with = "super::optional_duration")]
    queue_wait: Option<Duration>,
    #[serde(default)]
    pub(crate) refuse: Vec<String>,
    #[serde(default)]
    pub(crate) cheaper: Vec<String>,
    #[serde(default)]
    pub(crate) defer_jobs: bool,
    #[serde(default)]
    pub(crate) max_in_flight: Option<usize>,
}

impl LevelConfig {
    /// Where it begins.
    pub(crate) const fn threshold(&self) -> Threshold {
        Threshold { in_flight: self.in_flight, cpu_percent: self.cpu_percent, queue_wait: self.queue_wait }
    }
}

impl LoadConfig {
    /// What is wrong with it, by `check(whether it is right, its key, what it must be)`.
    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let second = Duration::from_secs(1);
        check((second / 100..=10 * second).contains(&self.measure), "load.measure", "must be from 10ms to 10s");
        check(self.hold <= 3600 * second, "load.hold", "must be at most 1h");
        check((1..=100).contains(&self.leave_percent), "load.leave_percent", "must be from 1 to 100");
        check(self.levels.len() <= MOST_LEVELS, "load.levels", "must be at most 10");
        let mut before = Threshold::default();
        for (at, level) in self.levels.iter().enumerate() {
            let key = |name: &str| format!("load.levels.{at}.{name}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let named = !level.name.is_empty() && level.name.len() <= 32 && level.name.bytes().all(plain);
            check(named, &key("name"), "must be 1 to 32 letters, digits, `-` or `_`");
            check(
                !self.levels[..at].iter().any(|other| other.name == level.name),
                &key("name"),
                "is the name of another level, too",
            );
            let threshold = level.threshold();
            check(
                threshold != Threshold::default(),
                &key("in_flight"),
                "has no figure: set `in_flight`, `cpu_percent` or `queue_wait`",
            );
            let rises = "must not be below that of the level before";
            let falls =
                |now: Option<u128>, before: Option<u128>| now.zip(before).is_some_and(|(now, before)| now < before);
            let count = |calls: Option<usize>| calls.map(|calls| calls as u128);
            check(!falls(count(threshold.in_flight), count(before.in_flight)), &key("in_flight"), rises);
            let percent = |percent: Option<u32>| percent.map(u128::from);
            check(!falls(percent(threshold.cpu_percent), percent(before.cpu_percent)), &key("cpu_percent"), rises);
            let millis = |span: Option<Duration>| span.map(|span| span.as_millis());
            check(!falls(millis(threshold.queue_wait), millis(before.queue_wait)), &key("queue_wait"), rises);
            check(threshold.cpu_percent.is_none_or(|most| most < 100), &key("cpu_percent"), "must be below 100");
            check(level.max_in_flight != Some(0), &key("max_in_flight"), "must be at least 1");
            before = Threshold {
                in_flight: threshold.in_flight.or(before.in_flight),
                cpu_percent: threshold.cpu_percent.or(before.cpu_percent),
                queue_wait: threshold.queue_wait.or(before.queue_wait),
            };
        }
    }
}
