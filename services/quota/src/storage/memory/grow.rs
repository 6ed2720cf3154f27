//! Growing: what a reservation holds is given back and the whole reserved anew, or all stays as it was.

use smallvec::SmallVec;

use super::subject::Subject;
use super::tenant::{State, Tenant};
use crate::domain::Millis;
use crate::storage::store::{Admission, Grow};

impl Tenant {
    /// Lets a reservation hold more, or changes nothing.
    pub(super) fn grow(&mut self, generation: u64, grow: &Grow<'_>, now: Millis) -> Admission {
        let id = grow.whole.id;
        let Some(slot) = self.find_reservation(&id) else { return Admission::Reused };
        match self.reservation(&id) {
            Some(State::Settled(_)) => return Admission::Settled,
            // By when it was reserved, handles from before and after are told apart.
            Some(State::Held(held)) if held.reserved_at == now => return Admission::Reused,
            Some(State::Held(held)) if (held.generation, held.reserved_at) == (generation, grow.reserved_at) => {}
            _ => return Admission::Reused,
        }
        let before = self.copies(grow);
        let Some(mut held) = self.take_out(slot) else { return Admission::Reused };
        for counter in &grow.held {
            self.give_back(counter, generation, now);
        }
        let admission = self.reserve(generation, &grow.whole, now);
        if !matches!(admission, Admission::Admitted { .. }) {
            for (slot, subject) in before {
                self.put_back(slot, subject);
            }
            let places = grow.concurrent.iter().map(|(limit, value)| self.concurrency.place(*limit, value));
            held.concurrent = places.collect();
            self.hold(id, held);
        }
        admission
    }

    /// The subjects that it holds something of, as they are.
    fn copies(&self, grow: &Grow<'_>) -> SmallVec<[(u32, Subject); 4]> {
        let mut copies: SmallVec<[(u32, Subject); 4]> = SmallVec::new();
        for counter in &grow.held {
            if let Some(slot) = self.find(&counter.value)
                && copies.iter().all(|(other, _)| *other != slot)
                && let Some(subject) = self.subjects.get(slot)
            {
                copies.push((slot, subject.clone()));
            }
        }
        copies
    }

    fn put_back(&mut self, slot: u32, subject: Subject) {
        let Some(place) = self.subjects.get_mut(slot) else { return };
        let (taken, given_up) = (subject.heap(), place.heap());
        *place = subject;
        self.account(taken, given_up);
    }
}
