//! When a schedule creates its next job.

use std::str::FromStr as _;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;

use super::spec::InvalidJob;

/// The shortest interval, in milliseconds.
const SHORTEST: i64 = 1000;
/// The longest, in milliseconds: ten years.
const LONGEST: i64 = 3653 * 86_400_000;
const MAX_PATTERN: usize = 200;

/// How often.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// At the times of a cron pattern, as clocks in a zone show them.
    Cron(Box<Cron>, Tz),
    /// Every so many milliseconds.
    Every(i64),
}

impl Pace {
    /// A cron pattern (five fields, or six with seconds first) in a zone by IANA's name.
    ///
    /// # Errors
    /// One of them can't be read.
    pub(crate) fn cron(pattern: &str, zone: &str) -> Result<Self, InvalidJob> {
        let zone = if zone.is_empty() { "UTC" } else { zone };
        let zone = zone.parse().map_err(|_| InvalidJob::new("schedule.time_zone", "is no IANA time zone"))?;
        if pattern.len() > MAX_PATTERN {
            return Err(InvalidJob::new("schedule.cron", "is too long"));
        }
        let cron = Cron::from_str(pattern).map_err(|error| InvalidJob::new("schedule.cron", error.to_string()))?;
        Ok(Self::Cron(Box::new(cron), zone))
    }

    /// An interval in milliseconds.
    ///
    /// # Errors
    /// It is too short or too long.
    pub(crate) fn every(millis: i64) -> Result<Self, InvalidJob> {
        if !(SHORTEST..=LONGEST).contains(&millis) {
            return Err(InvalidJob::new("schedule.every", "must be from 1 s to ten years"));
        }
        Ok(Self::Every(millis))
    }

    /// The first time after `now`. What was missed meanwhile is not made up for; intervals keep their beat, which begins at
    /// `last`.
    ///
    /// # Errors
    /// The pattern never comes true.
    pub(crate) fn next(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, InvalidJob> {
        let never = || InvalidJob::new("schedule.cron", "never comes true");
        match self {
            Self::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&now.with_timezone(zone), false).map_err(|_| never())?;
                Ok(next.with_timezone(&Utc))
            }
            Self::Every(millis) => {
                let passed = now.signed_duration_since(last).num_milliseconds().max(0);
                let beats = passed / millis + 1;
                last.checked_add_signed(TimeDelta::milliseconds(beats.saturating_mul(*millis))).ok_or_else(never)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_pattern_is_read_in_its_zone_across_a_change_of_clocks() {
        let pace = Pace::cron("0 9 * * *", "Europe/Berlin").expect("a pattern");
        let next = |now| pace.next(now, now).expect("a time");
        assert_eq!(next(at("2026-03-28T07:59:59Z")), at("2026-03-28T08:00:00Z"));
        assert_eq!(next(at("2026-03-28T08:00:00Z")), at("2026-03-29T07:00:00Z"), "summer time has begun");
        let seconds = Pace::cron("*/10 * * * * *", "").expect("a pattern");
        assert_eq!(
            seconds.next(at("2026-01-01T00:00:01Z"), at("2026-01-01T00:00:01Z")),
            Ok(at("2026-01-01T00:00:10Z"))
        );
    }

    #[test]
    fn intervals_keep_their_beat_and_skip_what_was_missed() {
        let pace = Pace::every(60_000).expect("an interval");
        let last = at("2026-01-01T00:00:30Z");
        assert_eq!(pace.next(last, last), Ok(at("2026-01-01T00:01:30Z")));
        assert_eq!(pace.next(last, at("2026-01-01T00:10:31Z")), Ok(at("2026-01-01T00:11:30Z")));
    }

    #[test]
    fn what_can_not_be_kept_is_refused() {
        let field = |pace: Result<Pace, InvalidJob>| pace.expect_err("it is wrong").field;
        assert_eq!(field(Pace::cron("every day", "")), "schedule.cron");
        assert_eq!(field(Pace::cron("0 9 * * *", "Mars/Base")), "schedule.time_zone");
        assert_eq!(field(Pace::every(999)), "schedule.every");
        let never = Pace::cron("0 0 30 2 *", "").expect("a pattern");
        assert!(never.next(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).is_err());
    }
}
