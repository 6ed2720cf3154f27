//! The arithmetic of an account. The script `storage/redis/lua/shared_round.lua` does the same, line by line; a property test
//! holds the two together.
//!
//! `cap - used - slices` is what is free, where `used` is what was committed and what reservations hold, and `slices` is what the
//! processes have been granted and have not reported yet. A slice of a process that says nothing any more counts on, because it
//! may have been given out: until somebody has looked up in the tenants' reservations what it gave out (see
//! `app/shared/reconcile.rs`), everything that was given out before its lease ended has left the window, or the period ends.

use std::collections::{BTreeMap, HashMap};

use weir_types::{MAX_AMOUNT, ReservationId};

use super::round::{Answer, Ended, Ending, HolderId, Measure, Reply, Round, Terms, Use};
use crate::domain::Millis;
use crate::domain::demand::bucket_end;

/// One limit's counter of one value, with everybody who draws from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    counter: Option<Counter>,
    holders: BTreeMap<HolderId, Holder>,
    reservations: HashMap<ReservationId, Known>,
}

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counter {
    generation: u64,
    /// The start of the period; 0 of a rolling window.
    period: Millis,
    /// Committed in the period; of a rolling window everything in the buckets.
    spent: i64,
    /// Of a period whose total is in Postgres: what has been committed as far as its ends have been told here. `spent` may be ahead of
    /// it by reservations that are `held`, too: another process has put them on the books and is about to tell.
    told: i64,
    held: i64,
    version: i64,
    /// Since when it has counted in this generation.
    began: Millis,
    buckets: Vec<(Millis, i64)>,
}

/// The sums of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// In which generation.
    pub generation: u64,
    /// The start of the period; 0 of a rolling window.
    pub period: Millis,
    /// Committed in the period; of a rolling window everything in the buckets.
    pub spent: i64,
    /// Held by reservations.
    pub held: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    slice: i64,
    lease_until: Millis,
    seq: i64,
    period: Millis,
    recalled: bool,
}

/// What is known of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Held { generation: u64, amount: i64, place: Millis, expires: Millis },
    Settled { at: Millis, estimated: bool, place: Millis },
}

/// Reservations that nobody settles are forgotten this long after they stopped to matter.
pub const GRACE: Millis = 3_600_000;

impl Account {
    /// Puts totals in place that were read from Postgres, unless the account is in this generation already.
    pub fn install(
        &mut self,
        generation: u64,
        now: Millis,
        period: Millis,
        total: (i64, i64),
        buckets: Vec<(Millis, i64)>,
    ) {
        if self.counter.as_ref().is_some_and(|counter| counter.generation == generation) {
            return;
        }
        self.holders.clear();
        let in_buckets: i64 = buckets.iter().map(|(_, amount)| amount).sum();
        let spent = total.0.saturating_add(in_buckets);
        let (told, version) = (spent, total.1);
        self.counter = Some(Counter { generation, period, spent, told, held: 0, version, began: now, buckets });
    }

    /// Takes a message: first what was given out and what ended, then what the holder keeps and gets.
    pub fn round(&mut self, generation: u64, now: Millis, round: &Round) -> Reply {
        let terms = &round.terms;
        let current = self.counter.as_ref().is_some_and(|counter| counter.generation == generation);
        if !current && terms.durable {
            return Reply::Cold;
        }
        if let Measure::Period(period) = terms.measure {
            let begun = self.counter.as_ref().map_or(0, |counter| counter.period);
            // The store's clock may have gone back over the end of a period: what has begun stays begun.
            if now >= period.end || (now < period.start && begun != period.start) {
                return Reply::Outside(now);
            }
            if begun > period.start {
                return Reply::Later(begun);
            }
        }
        if !current {
            self.holders.clear();
        }
        if self.holders.get(&round.holder).is_some_and(|holder| round.seq <= holder.seq) {
            return Reply::Overtaken;
        }
        let counter = self.counter.get_or_insert_default();
        if !current {
            // Rates outlive a change of the generation if the store kept its data; what is held is announced again.
            (counter.generation, counter.held, counter.began) = (generation, 0, now);
        }
        counter.advance(now, terms.measure, &mut self.holders);
        for one in &round.uses {
            counter.count(now, terms, one, &mut self.holders, &mut self.reservations);
        }
        for one in &round.ended {
            counter.end(now, terms, one, &mut self.holders, &mut self.reservations);
        }
        Reply::Done(self.draw(now, round))
    }

    fn draw(&mut self, now: Millis, round: &Round) -> Answer {
        let Some(counter) = &self.counter else { return Answer::default() };
        let had = self.holders.remove(&round.holder);
        // What was found of a dead process may have been all that it had.
        self.holders.retain(|_, holder| holder.slice > 0 || holder.lease_until > now);
        let kept = round.keep.clamp(0, had.as_ref().map_or(0, |holder| holder.slice));
        let recalled = had.is_some_and(|holder| holder.recalled);
        let (mut others, mut lost, mut lost_until, mut alive) = (0_i64, 0_i64, 0, 1);
        let length = match round.terms.measure {
            Measure::Rolling { length, .. } => Some(length),
            Measure::Period(_) => None,
        };
        for holder in self.holders.values() {
            if holder.lease_until > now {
                others += holder.slice;
                alive += 1;
            } else if holder.slice > 0 {
                lost += holder.slice;
                let until = match (length, round.terms.measure) {
                    (Some(length), _) => holder.lease_until + length,
                    (None, Measure::Period(period)) => period.end,
                    (None, Measure::Rolling { .. }) => now,
                };
                lost_until = lost_until.max(until);
            }
        }
        let used = counter.used(length.is_some());
        let free = round.terms.cap - used - others - lost - kept;
        // What is too little for any request stays where others can add to it.
        let mut granted = if free < round.least { 0 } else { round.ask.min(free).max(0) };
        if granted == round.ask {
            // Never all that is left to one: nearly at the end everybody gets what it asks for and no more.
            granted += round.ahead.min((free - granted) / (2 * alive)).max(0);
        } else {
            let lenders = self.holders.values_mut().filter(|holder| holder.lease_until > now && holder.slice > 0);
            lenders.for_each(|holder| holder.recalled = true);
        }
        if !round.leaving || kept > 0 {
            let holder = Holder {
                slice: kept + granted,
                lease_until: now + round.terms.lease,
                seq: round.seq,
                period: counter.period,
                recalled: false,
            };
            self.holders.insert(round.holder, holder);
        }
        let in_period = length.is_none() && round.terms.durable;
        let counted_once = counter.told.min(counter.spent).saturating_add(counter.held);
        Answer {
            now,
            kept,
            granted,
            used,
            certain: if in_period { counter.spent.max(counted_once) } else { used },
            held: if length.is_some() { counter.held.min(used) } else { counter.held },
            free: free - granted,
            others,
            lost,
            lost_until,
            recalled,
            buckets: counter.buckets.clone(),
        }
    }

    /// Forgets a process that has died: whatever it gave out is known. Answers whether it was there.
    pub fn forget(&mut self, now: Millis, holder: &HolderId) -> bool {
        let dead = self.holders.get(holder).is_some_and(|holder| holder.lease_until <= now);
        dead && self.holders.remove(holder).is_some()
    }

    /// Forgets what can't matter any more.
    pub fn sweep(&mut self, now: Millis, remember: Millis) {
        let Some(counter) = &mut self.counter else { return };
        self.reservations.retain(|_, known| match known {
            Known::Settled { at, .. } => *at + remember > now,
            Known::Held { generation, amount, place, expires } => {
                let stays = *expires > now;
                if !stays && counter.counts(*generation, *place) {
                    counter.held = (counter.held - *amount).max(0);
                }
                stays
            }
        });
    }

    /// The processes that have slices, each with the end of its lease.
    #[must_use]
    pub fn holders(&self) -> Vec<(HolderId, Millis)> {
        self.holders.iter().map(|(id, holder)| (*id, holder.lease_until)).collect()
    }

    /// Its sums; none if nothing was ever counted.
    #[must_use]
    pub fn sums(&self) -> Option<Sums> {
        let counter = self.counter.as_ref()?;
        let Counter { generation, period, spent, held, .. } = *counter;
        Some(Sums { generation, period, spent, held })
    }

    /// What it holds of each reservation of its generation and period, and what is in slices.
    #[must_use]
    pub fn contents(&self) -> (Vec<(ReservationId, i64)>, i64) {
        let counts = |known: &Known| match (known, &self.counter) {
            (Known::Held { generation, amount, place, .. }, Some(counter)) => {
                counter.counts(*generation, *place).then_some(*amount)
            }
            _ => None,
        };
        let held = self.reservations.iter().filter_map(|(id, known)| Some((*id, counts(known)?)));
        (held.collect(), self.holders.values().map(|holder| holder.slice).sum())
    }
}

impl Counter {
    const fn used(&self, rolling: bool) -> i64 {
        if rolling { self.spent } else { self.spent.saturating_add(self.held) }
    }

    /// Whether what is held of a reservation is a part of `held`.
    const fn counts(&self, generation: u64, place: Millis) -> bool {
        generation == self.generation && (self.period == 0 || place == self.period)
    }

    /// Lets go what time has taken.
    fn advance(&mut self, now: Millis, measure: Measure, holders: &mut BTreeMap<HolderId, Holder>) {
        match measure {
            Measure::Period(period) => {
                if self.period < period.start {
                    (self.period, self.spent, self.told, self.held, self.version) = (period.start, 0, 0, 0, 0);
                }
                // A slice is of the period in which it was granted.
                for holder in holders.values_mut().filter(|holder| holder.period != period.start) {
                    holder.slice = 0;
                }
            }
            Measure::Rolling { length, .. } => {
                let gone = self.buckets.iter().take_while(|(end, _)| end + length <= now).count();
                self.spent -= self.buckets.drain(..gone).map(|(_, amount)| amount).sum::<i64>();
                for holder in holders.values_mut().filter(|holder| holder.lease_until + length <= now) {
                    holder.slice = 0;
                }
            }
        }
        holders.retain(|_, holder| holder.slice > 0 || holder.lease_until > now);
    }

    fn count(
        &mut self,
        now: Millis,
        terms: &Terms,
        one: &Use,
        holders: &mut BTreeMap<HolderId, Holder>,
        reservations: &mut HashMap<ReservationId, Known>,
    ) {
        match reservations.get(&one.id) {
            Some(Known::Held { generation, .. }) if *generation == self.generation => return,
            Some(Known::Settled { .. }) => return,
            _ => {}
        }
        let (place, expires) = match terms.measure {
            Measure::Period(period) => {
                if one.place != period.start {
                    return;
                }
                (one.place, period.end + GRACE)
            }
            Measure::Rolling { length, grain } => {
                let place = one.age.map_or(one.place, |age| bucket_end(now - age, grain));
                if place + length > now {
                    self.insert(place, one.amount);
                }
                (place, place + length + GRACE)
            }
        };
        self.held = (self.held + one.amount).min(MAX_AMOUNT);
        if one.age.is_none() {
            self.found(now, one.holder, one.amount, one.reserved_at, holders);
        }
        let known = Known::Held { generation: self.generation, amount: one.amount, place, expires };
        reservations.insert(one.id, known);
    }

    fn end(
        &mut self,
        now: Millis,
        terms: &Terms,
        one: &Ended,
        holders: &mut BTreeMap<HolderId, Holder>,
        reservations: &mut HashMap<ReservationId, Known>,
    ) {
        let (rolling, current) = match terms.measure {
            Measure::Period(period) => (false, one.place == period.start),
            Measure::Rolling { .. } => (true, true),
        };
        let mut charged = one.place;
        match reservations.get_mut(&one.id) {
            Some(Known::Held { generation, amount, place, .. }) => {
                let (generation, amount, place) = (*generation, *amount, *place);
                charged = place;
                if self.counts(generation, place) {
                    self.held = (self.held - amount).max(0);
                }
                if generation == self.generation || !terms.durable {
                    let counted = if rolling { amount } else { 0 };
                    self.add(now, terms, place, one.actual - counted);
                } else if one.written_in == Some(self.generation) {
                    // Not announced after a loss: the buckets that were loaded have neither what was held nor what was used.
                    self.add(now, terms, place, one.actual - one.before);
                }
            }
            Some(Known::Settled { at, estimated, place }) => {
                if *estimated && one.ending == Ending::Final {
                    *estimated = false;
                    // Of an estimate that this generation was told of, what replaces it was written in it as well.
                    let news = one.written_in.map_or(*at >= self.began, |written| written == self.generation);
                    if news || !terms.durable {
                        self.add(now, terms, *place, one.actual - one.before);
                    }
                }
                return self.set_total(terms, one, current);
            }
            None if now - one.reserved_at < terms.remember => {
                // Not reported yet: by a process that will, or that has died. Or not announced yet after a loss.
                if !terms.durable || one.reserved_at >= self.began {
                    self.add(now, terms, one.place, one.actual);
                } else if one.written_in == Some(self.generation) {
                    // What was loaded has the estimate, if there was one; and what was written for an earlier generation.
                    self.add(now, terms, one.place, one.actual - one.before);
                }
                self.found(now, one.holder, one.reserved, one.reserved_at, holders);
            }
            None => return self.set_total(terms, one, current),
        }
        let estimated = one.ending == Ending::Estimated;
        reservations.insert(one.id, Known::Settled { at: now, estimated, place: charged });
        self.set_total(terms, one, current);
    }

    /// The slice of a process that has died is smaller by what turns out to have been given out of it.
    fn found(
        &self,
        now: Millis,
        holder: HolderId,
        amount: i64,
        reserved_at: Millis,
        holders: &mut BTreeMap<HolderId, Holder>,
    ) {
        if let Some(holder) = holders.get_mut(&holder)
            && holder.lease_until <= now
            && reserved_at >= self.began
        {
            holder.slice = (holder.slice - amount).max(0);
        }
    }

    /// Charges what was used, less what is counted already. Where the total is in Postgres it comes with it.
    fn add(&mut self, now: Millis, terms: &Terms, place: Millis, difference: i64) {
        match terms.measure {
            Measure::Period(period) => {
                if place == period.start {
                    let sum = if terms.durable { &mut self.told } else { &mut self.spent };
                    *sum = (*sum + difference).clamp(0, MAX_AMOUNT);
                }
            }
            Measure::Rolling { length, .. } if place + length > now => {
                if difference > 0 {
                    self.insert(place, difference);
                } else if let Some(bucket) = self.buckets.iter().position(|(end, _)| *end == place) {
                    // One that has left the window took what it had with it, also where the clock went back since.
                    let size = self.buckets[bucket].1;
                    let left = (size + difference).max(0);
                    self.spent -= size - left;
                    self.buckets[bucket].1 = left;
                    if left == 0 {
                        self.buckets.remove(bucket);
                    }
                }
            }
            Measure::Rolling { .. } => {}
        }
    }

    fn insert(&mut self, place: Millis, amount: i64) {
        if amount == 0 {
            return;
        }
        self.spent += amount;
        let at = self.buckets.partition_point(|(end, _)| *end < place);
        match self.buckets.get_mut(at) {
            Some((end, size)) if *end == place => *size += amount,
            _ => self.buckets.insert(at, (place, amount)),
        }
    }

    /// Totals are set, not added to, and only by a newer version.
    const fn set_total(&mut self, terms: &Terms, one: &Ended, current: bool) {
        let (total, version) = one.total;
        if matches!(terms.measure, Measure::Period(_)) && terms.durable && current && version > self.version {
            (self.spent, self.version) = (total, version);
        }
    }
}
