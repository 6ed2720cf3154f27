//! Applying what Postgres has decided. Doing it again changes nothing.
//!
//! Totals are set, not added to, and only by a newer version: neither a repeated settlement nor one that was overtaken can count
//! twice. Sums and buckets are changed once, while the reservation is held. Where a counter of Postgres is not known, whoever is
//! loading it must read again: it may have read before this settlement was there.

use super::subject::{Counter, clamp};
use super::tenant::{Mark, State, Tenant};
use crate::domain::Millis;
use crate::storage::store::{Applied, Apply, ApplyCounter, ApplyKind, Ending};

/// What a settlement finds.
#[derive(Clone, Copy)]
struct Found {
    /// In which generation it is held, if it is.
    held: Option<u64>,
    /// Whether an estimate stands there that the actual amounts now replace.
    replaced: bool,
    /// Whether nothing stands there.
    unknown: bool,
}

impl Tenant {
    /// Applies settlements; answers for each what it found.
    pub(super) fn settle(&mut self, settles: &[Apply], now: Millis) -> Vec<Applied> {
        settles.iter().map(|settle| self.settle_one(settle, now)).collect()
    }

    fn settle_one(&mut self, settle: &Apply, now: Millis) -> Applied {
        let (found, late) = match self.reservation(&settle.id) {
            None => (Found { held: None, replaced: false, unknown: true }, false),
            Some(State::Held(held)) if settle.reserved_at != Some(held.reserved_at) => return Applied::Held,
            Some(State::Held(held)) => {
                (Found { held: Some(held.generation), replaced: false, unknown: false }, held.ends <= now)
            }
            Some(State::Settled(mark)) => {
                let replaced = mark.ending == Ending::Estimated && settle.ending == Ending::Final;
                (Found { held: None, replaced, unknown: false }, mark.late)
            }
        };
        for counter in &settle.counters {
            self.settle_counter(counter, found, settle.written_in, now);
        }
        if found.held.is_some() || found.replaced || found.unknown {
            self.end(settle.id, Mark { at: now, ending: settle.ending, late });
        }
        Applied::Done { late }
    }

    /// The counter that a settlement is about, and its generation.
    fn counter(&mut self, settle: &ApplyCounter) -> Option<(u64, &mut Counter)> {
        let subject = self.subject(&settle.value)?;
        Some((subject.generation, subject.counter(settle.limit)?))
    }

    /// Gives back what a held reservation of this generation holds in a counter.
    pub(super) fn give_back(&mut self, held: &ApplyCounter, generation: u64, now: Millis) {
        self.settle_counter(held, Found { held: Some(generation), replaced: false, unknown: false }, None, now);
    }

    fn settle_counter(&mut self, settle: &ApplyCounter, found: Found, written_in: Option<u64>, now: Millis) {
        let Some((generation, counter)) = self.counter(settle) else {
            if matches!(settle.kind, ApplyKind::Total(..) | ApplyKind::Rolling(_, true)) {
                self.fence = None;
            }
            return;
        };
        // What an earlier generation held, this one has not counted.
        let holds = found.held == Some(generation);
        match (counter, settle.kind) {
            (Counter::Rolling { spent, held, buckets, .. }, ApplyKind::Rolling(length, durable)) => {
                if holds {
                    *held = clamp(*held - settle.reserved);
                }
                let inside = settle.place + length > now;
                let difference = if found.held.is_some() {
                    // What Postgres knows was read anew in another generation, without what was held.
                    if holds || !durable { settle.actual - settle.reserved } else { 0 }
                } else if found.replaced || (durable && found.unknown && written_in == Some(generation)) {
                    // Where the mark is lost the buckets were read from Postgres, which had the estimate; and if that was for a
                    // later generation than the one that this was written in, this as well.
                    settle.actual - settle.before
                } else {
                    0
                };
                if inside && difference != 0 {
                    let before = buckets.heap();
                    *spent += buckets.adjust(settle.place, difference);
                    let after = buckets.heap();
                    self.account(after, before);
                }
            }
            (Counter::Period { start, spent, held, version, .. }, kind @ (ApplyKind::Total(..) | ApplyKind::Sum)) => {
                let is_total = matches!(kind, ApplyKind::Total(..));
                if *start < settle.place && (is_total || found.held.is_some()) {
                    // Counted while the store was away: the first of a new period.
                    (*start, *spent, *held, *version) = (settle.place, 0, 0, 0);
                }
                if *start != settle.place {
                    return;
                }
                if holds {
                    *held = clamp(*held - settle.reserved);
                }
                match kind {
                    ApplyKind::Total(total, newer) if newer > *version => (*spent, *version) = (total, newer),
                    ApplyKind::Sum if found.held.is_some() => *spent = clamp(*spent + settle.actual),
                    ApplyKind::Sum if found.replaced => *spent = clamp(*spent + settle.actual - settle.before),
                    _ => {}
                }
            }
            // The limit's window has changed.
            _ => {}
        }
    }
}
