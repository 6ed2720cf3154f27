//! What each counter may say at a moment.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use weir_quota::domain::Millis;

use super::{Amounts, Fate, Known, Made, Reference, Touch, Who, Window};

/// What a counter may say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expected {
    pub(super) used: RangeInclusive<i64>,
    pub(super) held: RangeInclusive<i64>,
    /// The start of the period.
    pub(super) place: Millis,
    /// When it resets; of a rolling window only if that is certain.
    pub(super) reset: Reset,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reset {
    At(Option<Millis>),
    /// When each bucket leaves, and what leaves with it.
    Buckets(Vec<(Millis, i64)>),
    Any,
}

impl Reference {
    /// Every reservation's share of a counter.
    pub(super) fn shares(&self, limit: usize, whose: u8) -> impl Iterator<Item = (&Made, &Touch)> {
        let touches = self.made.values().flat_map(|made| made.touches.iter().map(move |touch| (made, touch)));
        touches.filter(move |(_, touch)| touch.limit == limit && touch.whose == whose)
    }

    /// What a reservation counts in a counter: committed, and held. Two values where it is on the books and the store was not told.
    pub(super) fn counts(&self, made: &Made, touch: &Touch) -> (RangeInclusive<i64>, i64) {
        let unit = self.limits[touch.limit].unit;
        let of = |fate: &Fate| match fate {
            Fate::Committed { amounts, .. } => amounts.get(unit).copied().unwrap_or(0),
            Fate::Held | Fate::Released => 0,
        };
        let books = of(&made.fate);
        let reserved = made.amounts.get(unit).copied().unwrap_or(0);
        if !self.is_durable(touch.limit) {
            return match &made.known {
                _ if !touch.counted => (0..=0, 0),
                Known::Lost(_) => (0..=0, 0),
                Known::Held => (0..=0, reserved),
                Known::Ended { fate, .. } => (of(fate)..=of(fate), 0),
            };
        }
        match &made.known {
            Known::Held if made.fate == Fate::Held => (0..=0, reserved),
            Known::Held => (0..=books, reserved),
            // Settled on the books alone it counts once the store reads them, at the latest when it is told.
            Known::Lost(fate) | Known::Ended { fate, .. } => (of(fate).min(books)..=of(fate).max(books), 0),
        }
    }

    /// What a counter may say; more than one only after the clock went back over the end of a period.
    pub(super) fn expected(&self, limit: usize, whose: u8) -> Vec<Expected> {
        match &self.limits[limit].window {
            Window::Concurrent => {
                let live = self.shares(limit, whose);
                let live = live.filter(|(made, _)| made.known == Known::Held && made.under_way_until > self.now);
                let live = i64::try_from(live.count()).unwrap();
                vec![Expected { used: live..=live, held: live..=live, place: 0, reset: Reset::At(None) }]
            }
            Window::Rolling(length) => vec![self.rolling(limit, whose, *length)],
            _ => {
                let mut periods = vec![self.period(limit, self.now)];
                // What has begun may stay begun, and what else is asked for at once then is in that time, too.
                periods.extend(self.begun().into_iter().map(|at| self.period(limit, at)));
                periods.sort_unstable();
                periods.dedup();
                periods.into_iter().map(|(start, end)| self.in_period(limit, whose, start, end)).collect()
            }
        }
    }

    /// All times after now in which a period may have begun.
    pub(super) fn begun(&self) -> Vec<Millis> {
        let seen = self.seen.iter().filter(|at| **at > self.now);
        let calendars = (0..self.limits.len())
            .filter(|limit| matches!(self.limits[*limit].window, Window::Calendar(..) | Window::Anchored(..)));
        let calendars: Vec<usize> = calendars.collect();
        seen.flat_map(|at| {
            let starts = calendars.iter().map(|limit| self.period(*limit, *at).0).filter(|start| *start > self.now);
            starts.chain([*at]).collect::<Vec<_>>()
        })
        .collect()
    }

    pub(super) fn in_period(&self, limit: usize, whose: u8, start: Millis, end: Millis) -> Expected {
        let (mut used, mut held) = ((0, 0), (0, 0));
        for (made, touch) in self.shares(limit, whose).filter(|(_, touch)| touch.place == start) {
            let (committed, holds) = self.counts(made, touch);
            // A counter that went to another period and back forgot what was held in it, and if nobody else has it, all.
            let forgets = self.went_back || self.absent[limit];
            let keeps = !forgets || self.is_durable(limit);
            used.0 += if keeps { *committed.start() } else { 0 } + if forgets { 0 } else { holds };
            used.1 += committed.end() + holds;
            held.0 += if forgets { 0 } else { holds };
            held.1 += holds;
        }
        let reset = Reset::At((end != Millis::MAX).then_some(end));
        Expected { used: used.0..=used.1, held: held.0..=held.1, place: start, reset }
    }

    pub(super) fn rolling(&self, limit: usize, whose: u8, length: Millis) -> Expected {
        let loose = self.went_back || self.mixed[limit];
        let forgets = self.absent[limit] && !self.is_durable(limit);
        let mut buckets: BTreeMap<Millis, i64> = BTreeMap::new();
        let (mut low, mut high, mut holds) = (0, 0, 0);
        for (made, touch) in self.shares(limit, whose) {
            let (committed, held) = self.counts(made, touch);
            holds += held;
            // Told or not, a bucket has one or the other, never both.
            let least = if held > 0 { held } else { *committed.start() };
            let most = if made.known == Known::Held { held } else { *committed.end() };
            if !loose && touch.place + length > self.now {
                low += least;
                high += most;
                *buckets.entry(touch.place).or_default() += least;
            } else if loose {
                let reserved = made.amounts.get(self.limits[limit].unit).copied().unwrap_or(0);
                if touch.place + length > self.latest && !forgets {
                    low += least;
                }
                // What was returned too late to matter is not returned, and what was charged instead is charged beside it.
                if self.bucket(limit, made.latest, true) + length > self.now {
                    high += most + reserved;
                }
            }
        }
        if loose {
            high += self.formerly(limit, whose, length);
        }
        buckets.retain(|_, amount| *amount > 0);
        let certain = !loose && !forgets && low == high;
        if forgets {
            low = 0;
        }
        let held = if certain { holds.min(low)..=holds.min(low) } else { 0..=high };
        let leaves = buckets.into_iter().map(|(end, amount)| (end + length, amount)).collect();
        let reset = if certain { Reset::Buckets(leaves) } else { Reset::Any };
        Expected { used: low..=high, held, place: 0, reset }
    }

    /// What reservations have held in a counter before they grew, and may not have given back.
    pub(super) fn formerly(&self, limit: usize, whose: u8, length: Millis) -> i64 {
        let unit = self.limits[limit].unit;
        let former = self.made.values().flat_map(|made| &made.former);
        let here = former.filter(|(_, latest, touches)| {
            let counted = touches.iter().any(|touch| touch.limit == limit && touch.whose == whose);
            counted && self.bucket(limit, *latest, true) + length > self.now
        });
        here.map(|(amounts, ..)| amounts.get(unit).copied().unwrap_or(0)).sum()
    }

    /// The limits that a request touches, and whose counters they are.
    pub(super) fn touched(&self, who: Who, amounts: Option<&Amounts>) -> Vec<(usize, u8)> {
        let touched = self.limits.iter().enumerate().filter_map(|(limit, spec)| {
            self.caps[limit]?;
            let whose = who.value(spec.scope)?;
            let asked = amounts.map(|amounts| amounts.get(spec.unit).copied());
            match (asked, &spec.window) {
                (None, _) => {}
                (Some(asked), Window::Concurrent) => {
                    asked.filter(|asked| *asked > 0)?;
                }
                (Some(asked), _) => {
                    asked?;
                }
            }
            Some((limit, whose))
        });
        touched.collect()
    }
}
