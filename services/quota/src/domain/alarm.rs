//! Soft alerts: at which values of a counter to warn, and when to warn again.

use super::{Kind, Limit, Millis, Period, PlanLimit, Touch};

/// The values at which a limit warns.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// Below it nothing warns; more than any value where nothing ever does. The hot path compares with this and nothing else.
    pub from: i64,
    /// The percentages of the cap, rising.
    percents: Vec<u8>,
    cap: i64,
    /// How long an alert of a window without fixed periods stays quiet after it fired.
    pub quiet: Option<Millis>,
}

/// When an alert that has fired may fire again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recurrence {
    /// In another period.
    Period(Period),
    /// This much later, once the use has fallen.
    Quiet(Millis),
}

/// Concurrency has no window; its alerts come at most this often.
const CONCURRENT_QUIET: Millis = 3_600_000;

impl Alarm {
    /// What a limit warns at. A cap of nothing warns of nothing.
    #[must_use]
    pub fn new(limit: &Limit) -> Self {
        let percents = if limit.cap > 0 { limit.alert_percents.clone() } else { Vec::new() };
        let from = percents.first().map_or(i64::MAX, |percent| value(limit.cap, *percent));
        let quiet = match limit.window.kind() {
            _ if percents.is_empty() => None,
            Kind::Rolling(length) => Some(length),
            Kind::Concurrent => Some(CONCURRENT_QUIET),
            Kind::Calendar(_) | Kind::Anchored | Kind::Lifetime => None,
        };
        Self { from, percents, cap: limit.cap, quiet }
    }

    /// The highest percentage that is reached; 0 if none.
    #[must_use]
    pub fn level(&self, used: i64) -> u8 {
        self.highest(|percent| used >= value(self.cap, percent))
    }

    /// The highest percentage that use has not clearly fallen below: a tenth of it is the difference between a fall and a
    /// flutter.
    #[must_use]
    pub fn rest(&self, used: i64) -> u8 {
        self.highest(|percent| i128::from(used) * 1_000 >= i128::from(self.cap) * i128::from(percent) * 9)
    }

    /// The highest percentage of all, when that is the whole cap: what a refusal means.
    #[must_use]
    pub fn full(&self) -> u8 {
        self.highest(|percent| percent == 100)
    }

    /// The percentages above one level, up to another.
    pub fn between(&self, above: u8, upto: u8) -> impl Iterator<Item = u8> {
        self.percents.iter().copied().filter(move |percent| above < *percent && *percent <= upto)
    }

    fn highest(&self, reached: impl Fn(u8) -> bool) -> u8 {
        self.percents.iter().rev().copied().find(|percent| reached(*percent)).unwrap_or(0)
    }
}

impl PlanLimit {
    /// When an alert about this counter may fire again.
    #[must_use]
    pub const fn recurrence(&self, touch: Touch) -> Recurrence {
        match self.alarm.quiet {
            Some(quiet) => Recurrence::Quiet(quiet),
            None => Recurrence::Period(touch.period),
        }
    }
}

/// The smallest value that is so many percent of the cap.
fn value(cap: i64, percent: u8) -> i64 {
    let value = (i128::from(cap) * i128::from(percent) + 99) / 100;
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{OnFailure, Scope, Unit, Window};
    use super::*;

    fn alarm(cap: i64, percents: &[u8]) -> Alarm {
        Alarm::new(&Limit {
            name: "budget".to_owned(),
            scope: Scope::Organization,
            unit: Unit::parse("token"),
            cap,
            window: Window::Lifetime,
            on_failure: OnFailure::Closed,
            alert_percents: percents.to_vec(),
        })
    }

    #[test]
    fn a_percentage_is_reached_at_the_first_value_that_is_not_below_it() {
        let alarm = alarm(7, &[50, 80, 100]);
        // 3.5, 5.6 and 7.
        let levels: Vec<u8> = (0..9).map(|used| alarm.level(used)).collect();
        assert_eq!(levels, [0, 0, 0, 0, 50, 50, 80, 100, 100]);
        assert_eq!(alarm.from, 4);
        assert_eq!(alarm.between(0, 80).collect::<Vec<_>>(), [50, 80]);
        assert_eq!(alarm.between(80, 100).collect::<Vec<_>>(), [100]);
    }

    #[test]
    fn the_largest_cap_is_no_overflow() {
        let largest = alarm(weir_types::MAX_AMOUNT, &[99]);
        assert_eq!((largest.level(i64::MAX), largest.rest(i64::MAX)), (99, 99));
    }

    #[test]
    fn nothing_warns_without_percentages_or_without_a_cap() {
        for silent in [alarm(7, &[]), alarm(0, &[50])] {
            assert_eq!((silent.from, silent.level(i64::MAX), silent.full()), (i64::MAX, 0, 0));
        }
        assert_eq!(alarm(10, &[80]).full(), 0, "nobody asked to be told of 100");
    }

    #[test]
    fn use_has_fallen_when_it_is_a_tenth_below() {
        let alarm = alarm(1_000, &[50, 80]);
        assert_eq!([alarm.rest(800), alarm.rest(720), alarm.rest(719), alarm.rest(449)], [80, 80, 50, 0]);
    }
}
