//! How many calls are under way, by concurrency limit: live leases, counted at any time, also after the clock went back.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::slab::Slab;
use crate::domain::{LimitId, Millis, Value};

/// The concurrency limits of one tenant that have members.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    counters: Slab<Counter>,
    by_limit: HashMap<(LimitId, Value), u32>,
    /// The members' ends, and in which counters each is.
    ends: BTreeMap<(Millis, u32), Members>,
    /// What the counts are counted at.
    now: Millis,
}

/// The places of the counters that a call counts in.
pub(super) type Members = SmallVec<[u32; 2]>;

#[derive(Debug)]
struct Counter {
    limit: LimitId,
    value: Value,
    /// Members, whether their leases have ended or not.
    members: u32,
    live: i64,
}

impl Concurrency {
    /// Counts at `now` from here on.
    pub(super) fn advance(&mut self, now: Millis) {
        let (from, to, step) = if now > self.now { (self.now, now, -1) } else { (now, self.now, 1) };
        self.now = now;
        if self.ends.is_empty() {
            return;
        }
        // A lease that ends at this very moment has ended.
        for (_, counters) in self.ends.range((from + 1, 0)..(to + 1, 0)) {
            for slot in counters {
                if let Some(counter) = self.counters.get_mut(*slot) {
                    counter.live += step;
                }
            }
        }
    }

    /// How many calls count in a limit.
    pub(super) fn live(&self, limit: LimitId, value: &Value) -> i64 {
        if self.by_limit.is_empty() {
            return 0;
        }
        // Looked for by a key that is not owned: few tenants have more than a handful.
        let slot = self.by_limit.get(&(limit, value.clone()));
        slot.and_then(|slot| self.counters.get(*slot)).map_or(0, |counter| counter.live)
    }

    /// The place of a limit's counter, for members to be.
    pub(super) fn place(&mut self, limit: LimitId, value: &Value) -> u32 {
        let counters = &mut self.counters;
        *self
            .by_limit
            .entry((limit, value.clone()))
            .or_insert_with(|| counters.insert(Counter { limit, value: value.clone(), members: 0, live: 0 }))
    }

    /// Counts a member until its end.
    pub(super) fn begin(&mut self, member: u32, until: Millis, counters: &[u32]) {
        if counters.is_empty() {
            return;
        }
        for slot in counters {
            if let Some(counter) = self.counters.get_mut(*slot) {
                counter.members += 1;
                counter.live += i64::from(until > self.now);
            }
        }
        self.ends.insert((until, member), counters.into());
    }

    /// Takes a member out.
    pub(super) fn end(&mut self, member: u32, until: Millis, counters: &[u32]) {
        if counters.is_empty() {
            return;
        }
        self.ends.remove(&(until, member));
        for slot in counters {
            let Some(counter) = self.counters.get_mut(*slot) else { continue };
            counter.members -= 1;
            counter.live -= i64::from(until > self.now);
            if counter.members == 0
                && let Some(counter) = self.counters.remove(*slot)
            {
                self.by_limit.remove(&(counter.limit, counter.value));
            }
        }
    }

    /// Moves a member's end.
    pub(super) fn prolong(&mut self, member: u32, from: Millis, to: Millis, counters: &[u32]) {
        if let Some(members) = self.ends.remove(&(from, member)) {
            self.ends.insert((to, member), members);
        }
        for slot in counters {
            if let Some(counter) = self.counters.get_mut(*slot) {
                counter.live += i64::from(to > self.now) - i64::from(from > self.now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_until_its_end_whichever_way_the_clock_goes() {
        let (mut concurrency, whose) = (Concurrency::default(), Value::Organization);
        concurrency.advance(100);
        let place = concurrency.place(7, &whose);
        for (member, until) in [(1, 110), (2, 120), (3, 130)] {
            concurrency.begin(member, until, &[place]);
        }
        for (now, live) in [(109, 3), (110, 2), (125, 1), (119, 2), (90, 3), (130, 0), (129, 1)] {
            concurrency.advance(now);
            assert_eq!(concurrency.live(7, &whose), live, "at {now}");
        }
        concurrency.prolong(1, 110, 200, &[place]);
        assert_eq!(concurrency.live(7, &whose), 2);
        for (member, until) in [(1, 200), (2, 120), (3, 130)] {
            concurrency.end(member, until, &[place]);
        }
        assert_eq!((concurrency.live(7, &whose), concurrency.counters.len()), (0, 0));
        assert!(concurrency.by_limit.is_empty() && concurrency.ends.is_empty());
    }
}
