//! How reservations end, and their leases.

use weir_quota::domain::{Millis, lease};

use super::{Amounts, Fate, Known, Made, Reference, Who, Window};

/// The lease of what is announced because it is about to be settled.
const TO_SETTLE: Millis = 3_600_000;

/// The answer to a settlement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    Done { fate: Fate, duplicate: bool, late: bool },
    WasCommitted,
    WasReleased,
    WasTakenOver,
}

impl Reference {
    /// Whether a settlement is taken: with a handle always; a release of anything, so that it can't be reserved later; a commit of
    /// what the store or the books know.
    pub(crate) fn is_findable(&self, id: u64, bare: bool, asked: &Fate) -> bool {
        let made = self.made.get(&id);
        let known = made.is_some_and(|made| made.known == Known::Held || made.fate != Fate::Held);
        !bare || *asked == Fate::Released || known
    }

    /// How a settlement is answered.
    pub(crate) fn settled(&self, id: u64, asked: &Fate) -> Settled {
        let Some(made) = self.made.get(&id) else {
            return Settled::Done { fate: asked.clone(), duplicate: false, late: false };
        };
        let late = match &made.known {
            Known::Lost(_) => false,
            Known::Held => made.lease_ends <= self.now,
            Known::Ended { late, .. } => *late,
        };
        match (&made.fate, asked) {
            (Fate::Held, Fate::Released) if made.taken_over => Settled::WasTakenOver,
            (Fate::Held, _) => Settled::Done { fate: asked.clone(), duplicate: false, late },
            (Fate::Committed { estimated: true, .. }, Fate::Committed { estimated: false, .. }) => {
                Settled::Done { fate: asked.clone(), duplicate: false, late }
            }
            (Fate::Committed { .. }, Fate::Released) => Settled::WasCommitted,
            (Fate::Released, Fate::Committed { .. }) => Settled::WasReleased,
            (stands, _) => Settled::Done { fate: stands.clone(), duplicate: true, late },
        }
    }

    /// What the store has lost is announced before it is settled by its handle, if it is held in a rolling window whose truth is in
    /// Postgres: then it counts as what it used in what only the store knows, too.
    #[must_use]
    pub(crate) fn counted_to_settle(&self, id: u64, bare: bool) -> Self {
        let mut after = self.clone();
        let is_long = |limit: usize| self.is_durable(limit) && matches!(self.limits[limit].window, Window::Rolling(_));
        let is_held = |made: &Made| made.fate == Fate::Held && made.touches.iter().any(|touch| is_long(touch.limit));
        if !bare && self.made.get(&id).is_some_and(is_held) && matches!(self.made[&id].known, Known::Lost(_)) {
            after.extend(id, TO_SETTLE);
        }
        after
    }

    /// The books say it, and if `told` the fast store knows.
    pub(crate) fn settle(&mut self, id: u64, asked: &Fate, told: bool) {
        self.made.entry(id).or_insert_with(|| Made {
            who: Who { user: None, key: None, ip: None, feature: None },
            amounts: Amounts::new(),
            fate: Fate::Held,
            known: Known::Lost(Fate::Held),
            taken_over: false,
            lease_ends: 0,
            under_way_until: 0,
            at: 0,
            latest: 0,
            touches: Vec::new(),
            former: Vec::new(),
        });
        let late = match self.settled(id, asked) {
            Settled::Done { fate, late, .. } => {
                self.made.get_mut(&id).unwrap().fate = fate;
                late
            }
            Settled::WasTakenOver => return,
            // The store is told what the books say, whatever was asked.
            _ => match &self.made[&id].known {
                Known::Ended { late, .. } => *late,
                Known::Held => self.made[&id].lease_ends <= self.now,
                Known::Lost(_) => false,
            },
        };
        let made = self.made.get_mut(&id).unwrap();
        if told {
            made.known = Known::Ended { fate: made.fate.clone(), late };
        }
    }

    pub(crate) fn extend(&mut self, id: u64, lease: Millis) -> &'static str {
        let ends = lease::end(self.now, lease);
        let made = self.made.get_mut(&id).unwrap();
        match (&made.known, &made.fate) {
            (Known::Held, _) => {
                (made.lease_ends, made.under_way_until) = (ends, ends);
                "extended"
            }
            (Known::Lost(_), Fate::Held) => {
                made.known = Known::Held;
                (made.lease_ends, made.under_way_until) = (ends, ends);
                made.touches.iter_mut().for_each(|touch| touch.counted = true);
                "announced"
            }
            _ => "settled",
        }
    }

    /// Those whose lease has ended.
    pub(crate) fn expired(&self) -> Vec<u64> {
        let expired = self.made.iter().filter(|(_, made)| made.known == Known::Held && made.lease_ends <= self.now);
        expired.map(|(id, _)| *id).collect()
    }

    /// Those that are handed over: the books do not say of them that they were released.
    pub(crate) fn handed_over(&self) -> Vec<u64> {
        let mut expired = self.expired();
        expired.retain(|id| self.made[id].fate != Fate::Released);
        expired
    }

    /// They are leased to somebody else; if `written`, the books say so, and if `told`, releases are carried through.
    pub(crate) fn take_over(&mut self, lease: Millis, written: bool, told: bool) {
        for id in self.expired() {
            let made = self.made.get_mut(&id).unwrap();
            made.lease_ends = lease::end(self.now, lease);
            made.taken_over |= written && made.fate == Fate::Held;
            if told && made.fate == Fate::Released {
                self.settle(id, &Fate::Released, true);
            }
        }
    }
}
