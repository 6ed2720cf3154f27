//! The table `[usage]`; `config.defaults.toml` explains every key.

use std::time::Duration;

use chrono::TimeDelta;
use serde::Deserialize;
use weir_config::{Problem, Validate};

use crate::domain::Horizon;

/// The commented defaults of the table `[usage]`.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The most events of one `RecordEvents` call, as the contract says.
pub const MAX_EVENTS: usize = 5000;

/// The table `[usage]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How late an event may come.
    #[serde(with = "weir_config::duration")]
    pub late_by: Duration,
    /// How far ahead a sender's clock may be.
    #[serde(with = "weir_config::duration")]
    pub ahead_by: Duration,
    /// How often to look for other replicas' events.
    #[serde(with = "weir_config::duration")]
    pub feed_poll: Duration,
    /// How events are brought together.
    pub recording: Recording,
}

/// The table `[usage.recording]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// The most events in one transaction.
    pub max_batch: usize,
    /// How long to wait for more events after the first.
    #[serde(with = "weir_config::duration")]
    pub linger: Duration,
    /// With this many events there is no waiting.
    pub linger_below: usize,
    /// How many events may wait in memory.
    pub queue: usize,
    /// After how long a transaction is given up.
    #[serde(with = "weir_config::duration")]
    pub commit_timeout: Duration,
}

const MAX_HORIZON: Duration = Duration::from_secs(3660 * 24 * 3600);
const MAX_LINGER: Duration = Duration::from_secs(1);

impl Config {
    /// How far from now an event may lie.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        // `validate` bounds both, so neither is out of range.
        let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::zero());
        Horizon { past: delta(self.late_by), future: delta(self.ahead_by) }
    }
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        for (key, value) in [("late_by", self.late_by), ("ahead_by", self.ahead_by)] {
            if value > MAX_HORIZON {
                problems.push(Problem::new(at, key, "must be at most ten years").hint("\"400d\""));
            }
        }
        if self.feed_poll.is_zero() {
            problems.push(Problem::new(at, "feed_poll", "must be more than nothing").hint("\"200ms\""));
        }
        let at = &format!("{at}.recording");
        let recording = &self.recording;
        if recording.max_batch < MAX_EVENTS {
            problems.push(Problem::new(
                at,
                "max_batch",
                format!("must be at least {MAX_EVENTS}: one call may bring as many"),
            ));
        }
        if recording.queue < recording.max_batch {
            problems.push(Problem::new(at, "queue", "must be at least max_batch"));
        }
        if u32::try_from(recording.queue).is_err() {
            problems.push(Problem::new(at, "queue", "must be below 2^32"));
        }
        if recording.linger > MAX_LINGER {
            problems.push(Problem::new(at, "linger", "must be at most 1s").hint("\"5ms\""));
        }
        if recording.commit_timeout.is_zero() {
            problems.push(Problem::new(at, "commit_timeout", "must be more than nothing").hint("\"10s\""));
        }
    }
}
