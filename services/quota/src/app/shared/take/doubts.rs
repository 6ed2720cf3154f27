//! Requests of which nobody knows whether they were carried out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_types::ReservationId;

use super::{Item, Taken, Taker, give_back};
use crate::app::shared::Shared;
use crate::app::shared::seats::Seats;
use crate::domain::Handle;
use crate::domain::handle::HandleShared;

/// A request of which nobody knows whether it was carried out. What it took stays in this process's slices and is said to no
/// account: the request may be repeated, with other amounts or by another process, and only the one that was carried out counts.
#[derive(Debug)]
pub(in crate::app::shared) struct Doubt {
    taker: Taker,
    since: Instant,
    /// When the store is asked next.
    look: Instant,
    /// What the reservation's handle has if it was carried out.
    part: HandleShared,
    pub(super) items: Vec<Item>,
    seats: Vec<Arc<Seats>>,
}

/// After so long it is looked up what became of a command that was not answered.
const LOOK: Duration = Duration::from_millis(100);
/// After so long a command that was not answered has been carried out or never will be.
const DOUBT: Duration = Duration::from_secs(3);
/// Doubts beyond these are not resolved: what they took counts as used, by nobody.
const MOST_DOUBTS: usize = 10_000;

impl Shared {
    pub(super) fn take_doubt(&self, taker: Taker) -> Option<Doubt> {
        let mut doubts = self.doubts.lock();
        let place = doubts.iter().position(|doubt| doubt.taker == taker)?;
        Some(doubts.remove(place))
    }

    pub(in crate::app::shared) fn has_doubts(&self) -> bool {
        let now = Instant::now();
        self.doubts.lock().iter().any(|doubt| doubt.look <= now)
    }

    /// Finds out what became of requests that were not answered.
    pub(in crate::app::shared) async fn resolve_doubts(&self) {
        let now = Instant::now();
        let due: Vec<Doubt> = self.doubts.lock().extract_if(.., |doubt| doubt.look <= now).take(100).collect();
        for doubt in due {
            let again = match self.store.find(&doubt.taker.organization, &doubt.taker.reservation).await {
                Ok(record) => self.resolve(doubt, record.and_then(|record| Handle::decode(&record.handle()).ok())),
                Err(_) => Some(Doubt { since: Instant::now(), look: Instant::now() + LOOK, ..doubt }),
            };
            self.doubts.lock().extend(again);
        }
    }

    /// What was carried out is used; what was not goes back once it can't be any more, and is in doubt until then. Of what is
    /// settled meanwhile the accounts know, or are told by whoever settles it.
    fn resolve(&self, doubt: Doubt, held: Option<Handle>) -> Option<Doubt> {
        let parts = held.iter().flat_map(|handle| &handle.shared);
        match parts.clone().find(|part| part.is_what_was_taken(&doubt.part)) {
            Some(part) => self.use_up(doubt.items, doubt.taker.entry(), part.taken_at),
            None if doubt.since.elapsed() < DOUBT => return Some(Doubt { look: doubt.since + DOUBT, ..doubt }),
            None => give_back(doubt.items),
        }
        // A seat is the reservation's own, whichever of its requests took it.
        let has = |seats: &Seats| parts.clone().any(|part| part.counters.iter().any(|one| one.account == seats.key));
        for seats in doubt.seats.iter().filter(|seats| !has(seats)) {
            self.give_seat_back(seats, doubt.taker.reservation);
        }
        None
    }
}

impl Taken {
    /// Nobody has said what became of the request.
    pub(super) fn doubt(&mut self) {
        let doubt = Doubt {
            taker: self.taker,
            since: Instant::now(),
            look: Instant::now() + LOOK,
            part: self.handle(),
            items: std::mem::take(&mut self.items),
            seats: self.seats.iter().filter(|seat| seat.new).map(|seat| Arc::clone(&seat.seats)).collect(),
        };
        self.keep_seats();
        let mut doubts = self.shared.doubts.lock();
        if doubts.len() < MOST_DOUBTS {
            doubts.push(doubt);
            return;
        }
        drop(doubts);
        self.shared.use_up(doubt.items, ReservationId::new_v7(), self.shared.now());
    }
}
