//! The calls of one class, in the order of start-time fair queueing.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;
use weir_types::OrganizationId;

/// Milliseconds since 1970.
pub(crate) type Millis = i64;

/// A waiting call's name; the same wherever it waits, so that joining again changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) Uuid);

/// A call that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) ticket: Ticket,
    pub(crate) tenant: OrganizationId,
    /// The plan's; higher goes first.
    pub(crate) priority: i32,
    /// What it takes of the provider, in any unit that is the same for the whole line; at least 1.
    pub(crate) cost: u32,
    /// When it began to wait, wherever that was.
    pub(crate) since: Millis,
    /// When it is of no use any more.
    pub(crate) deadline: Millis,
}

/// A place: the virtual start of the call's service, then the order of arrival.
pub(super) type Place = (u64, u64);

/// One class. Tags are in units of cost.
#[derive(Debug, Default)]
pub(super) struct Class {
    ready: BTreeSet<(Place, Ticket)>,
    /// The same calls by the time that they began to wait.
    ages: BTreeSet<(Millis, Ticket)>,
    /// How many belong to the class, those that are not ready included.
    members: usize,
    /// The virtual time: the latest start of a call that found room.
    now: u64,
    /// Where the virtual service of each tenant's last call ends. Of no meaning once that is not after `now`.
    ends: HashMap<OrganizationId, u64>,
}

impl Class {
    /// Takes a call in; answers its place.
    pub(super) fn join(&mut self, call: &Call, arrival: u64) -> Place {
        let start = self.ends.get(&call.tenant).copied().unwrap_or(0).max(self.now);
        self.ends.insert(call.tenant, start + u64::from(call.cost.max(1)));
        self.members += 1;
        let place = (start, arrival);
        self.put_back(place, call);
        place
    }

    /// Puts a call that was set aside back to its place.
    pub(super) fn put_back(&mut self, place: Place, call: &Call) {
        self.ready.insert((place, call.ticket));
        self.ages.insert((call.since, call.ticket));
    }

    /// Takes a call out of the order; it still belongs to the class.
    pub(super) fn set_aside(&mut self, place: Place, call: &Call) {
        self.ready.remove(&(place, call.ticket));
        self.ages.remove(&(call.since, call.ticket));
    }

    /// There is room for the call of this place: the virtual time moves.
    pub(super) fn moves(&mut self, place: Place) {
        self.now = self.now.max(place.0);
    }

    /// Forgets a call.
    pub(super) fn leave(&mut self, place: Place, call: &Call) {
        self.set_aside(place, call);
        self.members -= 1;
        if self.members == 0 {
            self.ends.clear();
        } else if self.ends.len() > 2 * self.members + 16 {
            let now = self.now;
            self.ends.retain(|_, end| *end > now);
        }
    }

    /// The call that is first.
    pub(super) fn first(&self) -> Option<Ticket> {
        self.ready.first().map(|(_, ticket)| *ticket)
    }

    /// How many that are ready go before this place. Most who ask stand near the end, so it is counted from there.
    pub(super) fn before(&self, place: Place, ticket: Ticket) -> usize {
        self.ready.len() - self.ready.range((place, ticket)..).count()
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Since when the longest of those that are ready has waited.
    pub(super) fn oldest(&self) -> Option<Millis> {
        self.ages.first().map(|(since, _)| *since)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.members == 0
    }
}
