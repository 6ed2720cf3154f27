//! The last period that was asked for: time zones are not free, and most requests are in the same one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

use super::{Millis, Period};

/// Remembers one period; readers change nothing, so that requests on many cores do not wait for each other.
#[derive(Debug, Default)]
pub(super) struct LastPeriod {
    /// Odd while the others are being written (a sequence lock).
    turn: AtomicU64,
    start: AtomicI64,
    end: AtomicI64,
}

impl LastPeriod {
    /// The remembered period if the instant is in it, else what `find` finds.
    pub(super) fn get(&self, instant: Millis, find: impl FnOnce() -> Period) -> Period {
        let turn = self.turn.load(Ordering::Acquire);
        let period = Period { start: self.start.load(Ordering::Relaxed), end: self.end.load(Ordering::Relaxed) };
        fence(Ordering::Acquire);
        if turn.is_multiple_of(2) && turn == self.turn.load(Ordering::Relaxed) && period.contains(instant) {
            return period;
        }
        let found = find();
        self.remember(turn, found);
        found
    }

    fn remember(&self, turn: u64, period: Period) {
        if !turn.is_multiple_of(2)
            || self.turn.compare_exchange(turn, turn + 1, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            // Somebody else does.
            return;
        }
        fence(Ordering::Release);
        self.start.store(period.start, Ordering::Relaxed);
        self.end.store(period.end, Ordering::Relaxed);
        self.turn.store(turn + 2, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_never_made_of_two() {
        let last = LastPeriod::default();
        let of = |instant: Millis| {
            let start = instant.div_euclid(100) * 100;
            Period { start, end: start + 100 }
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let last = &last;
                scope.spawn(move || {
                    for step in 0..50_000 {
                        let instant = (step * (7 + thread)) % 1_000;
                        assert_eq!(last.get(instant, || of(instant)), of(instant));
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_remembered_is_not_looked_for() {
        let last = LastPeriod::default();
        let period = Period { start: 10, end: 20 };
        assert_eq!(last.get(15, || period), period);
        assert_eq!(last.get(19, || unreachable!()), period);
        assert_eq!(last.get(20, || Period { start: 20, end: 30 }).start, 20);
    }
}
