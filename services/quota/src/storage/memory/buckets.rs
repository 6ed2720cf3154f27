//! What a rolling window has counted, by the time at which it leaves.

use std::collections::VecDeque;

use crate::domain::Millis;

/// Buckets by their end, oldest first. The newest stands apart: as long as it lasts, nothing else is touched, and what has only
/// one needs no memory of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets {
    newest: Millis,
    /// 0: there is no bucket at all.
    size: i64,
    #[expect(clippy::box_collection, reason = "most have one bucket only, and a counter should be small")]
    older: Option<Box<VecDeque<(Millis, i64)>>>,
}

impl Buckets {
    /// From buckets by their end, oldest first; answers their sum, too.
    pub(super) fn new(mut buckets: VecDeque<(Millis, i64)>) -> (Self, i64) {
        let spent = buckets.iter().map(|(_, amount)| amount).sum();
        let (newest, size) = buckets.pop_back().unwrap_or_default();
        let older = (!buckets.is_empty()).then(|| Box::new(buckets));
        (Self { newest, size, older }, spent)
    }

    fn queue(&self) -> impl Iterator<Item = (Millis, i64)> {
        self.older.iter().flat_map(|older| older.iter().copied())
    }

    /// All of them, oldest first.
    pub(super) fn list(&self) -> Vec<(Millis, i64)> {
        self.queue().chain((self.size > 0).then_some((self.newest, self.size))).collect()
    }

    /// How much of it has left the window, if what ended at `horizon` or before has.
    pub(super) fn gone(&self, horizon: Millis) -> i64 {
        let mut gone = 0;
        if let Some(older) = &self.older {
            for (end, size) in older.iter() {
                if *end > horizon {
                    return gone;
                }
                gone += size;
            }
        }
        if self.newest <= horizon { gone + self.size } else { gone }
    }

    /// Drops what has left the window; answers how much that was.
    pub(super) fn drop_gone(&mut self, horizon: Millis) -> i64 {
        let mut gone = 0;
        if let Some(older) = &mut self.older {
            while let Some((end, size)) = older.front() {
                if *end > horizon {
                    return gone;
                }
                gone += size;
                older.pop_front();
            }
        }
        if self.newest <= horizon {
            gone += std::mem::take(&mut self.size);
        }
        gone
    }

    /// Counts what happens now; what a clock that went back has in an earlier bucket goes into the newest, which leaves later.
    pub(super) fn add(&mut self, bucket: Millis, amount: i64) {
        if bucket <= self.newest {
            self.size = self.size.saturating_add(amount);
            return;
        }
        if self.size > 0 {
            self.older.get_or_insert_default().push_back((self.newest, self.size));
        }
        (self.newest, self.size) = (bucket, amount);
    }

    /// Counts in its own bucket, wherever that is; answers what that adds to the sum.
    pub(super) fn insert(&mut self, bucket: Millis, amount: i64) -> i64 {
        if amount == 0 {
            return 0;
        }
        if self.size == 0 {
            (self.newest, self.size) = (bucket, amount);
        } else if bucket >= self.newest {
            self.add(bucket, amount);
        } else {
            let older = self.older.get_or_insert_default();
            let at = older.partition_point(|(end, _)| *end < bucket);
            match older.get_mut(at).filter(|(end, _)| *end == bucket) {
                Some((_, size)) => *size = size.saturating_add(amount),
                None => older.insert(at, (bucket, amount)),
            }
        }
        amount
    }

    /// Changes what was counted in `bucket`; answers what that adds to the sum. What was counted while a later bucket was the newest
    /// stands in the next one. A bucket that has left the window took what it had with it: there is nothing to return. It may have
    /// left before the clock went back, where even the oldest one is later.
    pub(super) fn adjust(&mut self, bucket: Millis, difference: i64) -> i64 {
        if difference >= 0 {
            return self.insert(bucket, difference);
        }
        let oldest = self.queue().next().map_or(self.newest, |(end, _)| end);
        if bucket < oldest {
            return 0;
        }
        if let Some(older) = &mut self.older {
            let at = older.partition_point(|(end, _)| *end < bucket);
            if let Some((_, size)) = older.get_mut(at) {
                let before = *size;
                *size = (before + difference).max(0);
                let change = *size - before;
                if *size == 0 {
                    older.remove(at);
                }
                return change;
            }
        }
        if self.size == 0 || self.newest < bucket {
            return 0;
        }
        let before = self.size;
        self.size = (before + difference).max(0);
        let change = self.size - before;
        if self.size == 0 {
            (self.newest, self.size) = self.older.as_mut().and_then(|older| older.pop_back()).unwrap_or_default();
        }
        change
    }

    /// The memory that it has beside its own, in bytes.
    pub(super) fn heap(&self) -> usize {
        const HEADER: usize = size_of::<VecDeque<(Millis, i64)>>();
        self.older.as_ref().map_or(0, |older| HEADER + older.capacity() * size_of::<(Millis, i64)>())
    }

    /// Gives up room that nothing uses.
    pub(super) fn shrink(&mut self) {
        if self.older.as_ref().is_some_and(|older| older.is_empty()) {
            self.older = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Buckets {
        let mut buckets = Buckets::default();
        for (bucket, amount) in [(10, 1), (10, 1), (20, 3), (30, 5)] {
            buckets.add(bucket, amount);
        }
        buckets
    }

    #[test]
    fn what_has_left_the_window_is_dropped_and_not_before() {
        let mut buckets = filled();
        assert_eq!((buckets.gone(9), buckets.gone(10), buckets.gone(29), buckets.gone(30)), (0, 2, 5, 10));
        assert_eq!((buckets.drop_gone(20), buckets.list()), (5, vec![(30, 5)]));
        assert_eq!((buckets.drop_gone(30), buckets.list()), (5, vec![]));
        buckets.add(30, 2);
        assert_eq!(buckets.list(), [(30, 2)]);
    }

    #[test]
    fn a_clock_that_went_back_counts_in_the_newest_bucket() {
        let mut buckets = filled();
        buckets.add(5, 7);
        assert_eq!(buckets.list(), [(10, 2), (20, 3), (30, 12)]);
    }

    #[test]
    fn what_is_announced_goes_where_it_belongs() {
        let mut buckets = filled();
        for (bucket, amount) in [(20, 1), (15, 1), (5, 1), (40, 1), (30, 1), (7, 0)] {
            assert_eq!(buckets.insert(bucket, amount), amount);
        }
        assert_eq!(buckets.list(), [(5, 1), (10, 2), (15, 1), (20, 4), (30, 6), (40, 1)]);
        let mut empty = Buckets::default();
        empty.add(50, 1);
        empty.drop_gone(50);
        empty.insert(20, 2);
        assert_eq!(empty.list(), [(20, 2)]);
    }

    #[test]
    fn what_is_returned_is_never_more_than_its_bucket_has() {
        let mut buckets = filled();
        assert_eq!((buckets.adjust(20, -2), buckets.adjust(20, -2), buckets.adjust(31, -1)), (-2, -1, 0));
        assert_eq!(buckets.list(), [(10, 2), (30, 5)]);
        assert_eq!(buckets.adjust(12, -1), -1, "the next one has it");
        assert_eq!(buckets.adjust(9, -1), 0, "it has left");
        assert_eq!((buckets.adjust(30, -9), buckets.list()), (-4, vec![(10, 2)]));
        assert_eq!((buckets.adjust(10, -2), buckets.list()), (-2, vec![]));
        assert_eq!((buckets.adjust(10, 3), buckets.list()), (3, vec![(10, 3)]));
        assert_eq!((buckets.adjust(9, -1), buckets.adjust(11, -1)), (0, 0));
    }
}
