//! Load levels: reached at once, left slowly, so that a load at a threshold does not make them flap.

use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Calls under way.
    pub(crate) in_flight: usize,
    /// Of the processors that may be used.
    pub(crate) cpu_percent: u32,
    /// How long the call has waited for a provider that has waited longest.
    pub(crate) queue_wait: Duration,
}

/// Where a level begins: beyond any of these. What is unset is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub(crate) in_flight: Option<usize>,
    pub(crate) cpu_percent: Option<u32>,
    pub(crate) queue_wait: Option<Duration>,
}

impl Threshold {
    /// Whether one of the figures is beyond `percent` of its own.
    fn is_passed(&self, figures: &Figures, percent: u32) -> bool {
        let beyond =
            |figure: u128, most: Option<u128>| most.is_some_and(|most| figure * 100 > most * u128::from(percent));
        beyond(figures.in_flight as u128, self.in_flight.map(|most| most as u128))
            || beyond(figures.cpu_percent.into(), self.cpu_percent.map(u128::from))
            || beyond(figures.queue_wait.as_millis(), self.queue_wait.map(|most| most.as_millis()))
    }
}

/// The levels, and on which of them we are.
#[derive(Debug)]
pub(crate) struct Ladder {
    thresholds: Vec<Threshold>,
    leave_percent: u32,
    hold: Duration,
    level: usize,
    /// Since when the figures have been low enough to leave the level, and the highest that they would have held meanwhile.
    calm: Option<(Instant, usize)>,
}

impl Ladder {
    /// Level n is reached beyond the n-th threshold. It is left when every figure has been at most `leave_percent` of its own for
    /// `hold`.
    pub(crate) fn new(thresholds: Vec<Threshold>, leave_percent: u32, hold: Duration) -> Self {
        Self { thresholds, leave_percent, hold, level: 0, calm: None }
    }

    /// The level after these figures; 0 is below all thresholds.
    pub(crate) fn observe(&mut self, figures: &Figures, now: Instant) -> usize {
        let highest = |percent| {
            let passed = self.thresholds.iter().rposition(|threshold| threshold.is_passed(figures, percent));
            passed.map_or(0, |at| at + 1)
        };
        let (reached, held) = (highest(100), highest(self.leave_percent));
        if reached > self.level {
            self.level = reached;
        }
        if held >= self.level {
            self.calm = None;
            return self.level;
        }
        let (since, most) = self.calm.map_or((now, held), |(since, most)| (since, most.max(held)));
        self.calm = Some((since, most));
        if now.saturating_duration_since(since) >= self.hold {
            self.level = most;
            self.calm = None;
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// As live-coaching has them.
    fn ladder() -> Ladder {
        let at = |in_flight, cpu| Threshold { in_flight: Some(in_flight), cpu_percent: Some(cpu), queue_wait: None };
        Ladder::new(vec![at(150, 50), at(300, 70), at(500, 90)], 80, 30 * SECOND)
    }

    fn calls(in_flight: usize) -> Figures {
        Figures { in_flight, ..Figures::default() }
    }

    #[test]
    fn a_level_begins_beyond_its_figure() {
        let now = Instant::now();
        for (in_flight, level) in [(0, 0), (150, 0), (151, 1), (300, 1), (301, 2), (500, 2), (501, 3)] {
            assert_eq!(ladder().observe(&calls(in_flight), now), level, "{in_flight}");
        }
        assert_eq!(ladder().observe(&Figures { cpu_percent: 91, ..calls(1) }, now), 3, "any of the figures");
        let mut waits = Ladder::new(vec![Threshold { queue_wait: Some(SECOND), ..Threshold::default() }], 80, SECOND);
        assert_eq!(
            waits.observe(&Figures { queue_wait: SECOND, ..calls(1000) }, now),
            0,
            "what is unset does not count"
        );
        assert_eq!(waits.observe(&Figures { queue_wait: 2 * SECOND, ..Figures::default() }, now), 1);
    }

    #[test]
    fn a_level_is_left_when_all_has_been_calm_for_long_enough() {
        let (mut ladder, start) = (ladder(), Instant::now());
        let mut at = |seconds: u32, in_flight| ladder.observe(&calls(in_flight), start + seconds * SECOND);
        assert_eq!(at(0, 501), 3);
        assert_eq!(at(1, 450), 3, "under the figure, over what leaves it");
        assert_eq!(at(60, 400), 3, "calm from now on");
        assert_eq!(at(89, 0), 3);
        assert_eq!(at(90, 0), 2, "as low as it has been calm for, not lower");
        assert_eq!(at(91, 0), 2);
        assert_eq!(at(120, 241), 2, "over what leaves it: calm begins anew");
        assert_eq!(at(121, 0), 2);
        assert_eq!(at(150, 301), 2);
        assert_eq!(at(151, 0), 2);
        assert_eq!(at(181, 0), 0);
    }

    #[test]
    fn a_load_at_the_threshold_does_not_flap() {
        let (mut ladder, start) = (ladder(), Instant::now());
        let mut changes = 0;
        let mut level = 0;
        for second in 0..600 {
            let now = ladder.observe(&calls(if second % 2 == 0 { 149 } else { 151 }), start + second * SECOND);
            changes += usize::from(now != level);
            level = now;
        }
        assert_eq!((level, changes), (1, 1));
    }
}
