//! Lengthening leases, announcing them again, taking them over.

use std::time::Duration;

use weir_types::ReservationId;

use super::concurrency::Members;
use super::subject::{Counter, clamp};
use super::tenant::{Held, Kept, State, Tenant};
use crate::domain::Millis;
use crate::storage::store::{Announce, AnnounceCounter, Announced, Expired, Extended};

impl Tenant {
    /// Lengthens a lease.
    pub(super) fn extend(&mut self, generation: u64, id: &ReservationId, lease: Duration, now: Millis) -> Extended {
        let Some(slot) = self.find_reservation(id) else { return Extended::Unknown };
        match self.reservations.get(slot).map(|reservation| &reservation.state) {
            Some(State::Settled(_)) => Extended::Settled,
            Some(State::Held(held)) if held.generation == generation => {
                self.concurrency.advance(now);
                self.lease(slot, after(now, lease), true);
                Extended::Extended
            }
            _ => Extended::Unknown,
        }
    }

    /// Counts a reservation again that an earlier generation knew, or nobody.
    pub(super) fn announce(&mut self, generation: u64, announce: &Announce, now: Millis) -> Announced {
        let slot = self.find_reservation(&announce.id);
        let state = slot.and_then(|slot| Some(&self.reservations.get(slot)?.state));
        let known = state.is_some();
        match state {
            Some(State::Settled(_)) => return Announced::Settled,
            Some(State::Held(held)) if held.generation == generation => {
                self.extend(generation, &announce.id, announce.lease, now);
                return Announced::Extended;
            }
            _ => {}
        }
        // What an earlier generation has left is loaded anew, all of a subject together: once it is of this generation, nobody asks
        // any more whether its totals are. What can't be loaded is of no limit of today's plan.
        let is_stale = |counter: &AnnounceCounter| self.generation_of(counter) != Some(generation);
        if !announce.loaded && announce.counters.iter().any(is_stale) {
            return Announced::Cold;
        }
        for counter in &announce.counters {
            self.announce_counter(generation, counter, known, now);
        }
        if let Some(slot) = slot {
            self.let_go(slot);
        }
        self.concurrency.advance(now);
        let mut concurrent = Members::new();
        for (limit, value) in &announce.concurrent {
            concurrent.push(self.concurrency.place(*limit, value));
        }
        let (record, ends) = (&announce.record, after(now, announce.lease));
        let held = Held {
            generation,
            reserved_at: record.reserved_at,
            ends,
            live_until: ends,
            concurrent,
            kept: Kept::new(record.body.version, &record.body.tail, &record.context, &record.body.decision),
        };
        self.hold(announce.id, held);
        Announced::Announced
    }

    fn generation_of(&self, counter: &AnnounceCounter) -> Option<u64> {
        Some(self.subjects.get(self.find(&counter.value)?)?.generation)
    }

    /// `known`: an earlier generation has counted it, and the store has kept its data since.
    fn announce_counter(&mut self, generation: u64, announce: &AnnounceCounter, known: bool, now: Millis) {
        let Some(subject) = self.subject(&announce.value).filter(|subject| subject.generation == generation) else {
            return;
        };
        let Some(counter) = subject.counter(announce.limit) else { return };
        match (counter, announce.rolling) {
            (Counter::Rolling { spent, held, buckets, .. }, Some(length)) => {
                *held = clamp(*held + announce.amount);
                // The buckets of a rate outlive a change of the generation if the store kept its data.
                if announce.place + length > now && (announce.durable || !known) {
                    let before = buckets.heap();
                    *spent += buckets.insert(announce.place, announce.amount);
                    let after = buckets.heap();
                    self.account(after, before);
                }
            }
            (Counter::Period { start, spent, held, version, .. }, None) => {
                if *start < announce.place {
                    // Made before the clock went back: what has begun stays begun.
                    (*start, *spent, *held, *version) = (announce.place, 0, 0, 0);
                }
                if *start == announce.place {
                    *held = clamp(*held + announce.amount);
                }
            }
            _ => {}
        }
    }

    /// Leases expired reservations to the caller, so that no two callers get the same one. They don't count as under way again.
    pub(super) fn take_over(&mut self, most: usize, lease: Duration, now: Millis) -> Vec<Expired> {
        let expired: Vec<u32> = self.leases.range(..=(now, u32::MAX)).take(most).map(|(_, slot)| *slot).collect();
        let mut taken = Vec::with_capacity(expired.len());
        for slot in expired {
            if let Some(reservation) = self.reservations.get(slot)
                && let State::Held(held) = &reservation.state
            {
                taken.push(Expired { id: reservation.id, record: held.record() });
                self.lease(slot, after(now, lease), false);
            }
        }
        taken
    }
}

fn after(now: Millis, lease: Duration) -> Millis {
    crate::domain::lease::end(now, i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}
