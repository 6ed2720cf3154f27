//! What an organisation used and owes in a period.

use chrono::{DateTime, TimeDelta, Utc};
use weir_types::{NanoUsd, OrganizationId};

/// The longest period of a statement.
pub(crate) const MAX_DAYS: i64 = 400;

/// From its start, until just before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// Included.
    pub(crate) start: DateTime<Utc>,
    /// Not included.
    pub(crate) end: DateTime<Utc>,
}

impl Period {
    /// The period `[start, end)`.
    ///
    /// # Errors
    /// What is wrong with the end.
    pub(crate) fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, String> {
        if end <= start {
            return Err("must be after the start".to_owned());
        }
        if end - start > TimeDelta::days(MAX_DAYS) {
            return Err(format!("must be at most {MAX_DAYS} days after the start"));
        }
        Ok(Self { start, end })
    }

    /// Whether `time` is in it.
    #[must_use]
    pub(crate) fn contains(&self, time: DateTime<Utc>) -> bool {
        self.start <= time && time < self.end
    }
}

/// Usage of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// As in the usage events.
    pub(crate) provider: String,
    /// As in the usage events.
    pub(crate) model: String,
    /// Of calls with callers' own keys, which cost nothing.
    pub(crate) own_key: bool,
    /// Provider calls, and requests that were answered without one.
    pub(crate) requests: i64,
    /// All input.
    pub(crate) input_tokens: i64,
    /// Of it, what was cached.
    pub(crate) cached_input_tokens: i64,
    /// All output.
    pub(crate) output_tokens: i64,
    /// What they cost.
    pub(crate) amount: NanoUsd,
    /// Of the calls, those whose amounts are estimated.
    pub(crate) estimated_requests: i64,
}

/// What an organisation used and owes in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Whose.
    pub(crate) organization: OrganizationId,
    /// When.
    pub(crate) period: Period,
    /// By provider, model, and whose key it was.
    pub(crate) lines: Vec<Line>,
    /// Events of the period that are durable in usage and not rated yet.
    pub(crate) unrated_events: i64,
}

impl Statement {
    /// What the lines sum up to.
    #[must_use]
    pub(crate) fn total(&self) -> NanoUsd {
        self.lines.iter().map(|line| line.amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_half_open_and_bounded() {
        let (start, day) = (DateTime::UNIX_EPOCH, TimeDelta::days(1));
        let period = Period::new(start, start + day).expect("is a day");
        assert!(period.contains(start) && !period.contains(start + day));
        assert!(Period::new(start, start).is_err());
        assert!(Period::new(start + day, start).is_err());
        assert!(Period::new(start, start + day * 400).is_ok());
        assert!(Period::new(start, start + day * 400 + TimeDelta::seconds(1)).is_err());
    }
}
