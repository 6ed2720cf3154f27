//! Concurrency across tenants: no slices, one seat for each call under way, free again when its lease ends. The script
//! `storage/redis/lua/shared_leases.lua` does the same.

use std::collections::HashMap;

use weir_types::ReservationId;

use crate::domain::Millis;

/// The seats of one limit and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseAccount {
    generation: u64,
    /// Until when each seat is taken.
    seats: HashMap<ReservationId, Millis>,
    /// Seats of requests that are not decided yet: they may be free again in a moment.
    undecided: HashMap<ReservationId, Millis>,
    /// Calls that have ended: they get no seat any more.
    ended: HashMap<ReservationId, Millis>,
}

/// A message about seats.
#[derive(Debug, Clone, Default)]
pub struct LeaseRound {
    /// How many seats there are.
    pub cap: i64,
    /// For how long (ms) an ended call is remembered.
    pub remember: Millis,
    /// Calls that have ended.
    pub ended: Vec<ReservationId>,
    /// Requests that were refused by something else: their seats are given back.
    pub given_back: Vec<ReservationId>,
    /// Requests that were admitted.
    pub decided: Vec<ReservationId>,
    /// Calls that are under way, with the lease (ms) from now on; taken without regard to the cap.
    pub extended: Vec<(ReservationId, Millis)>,
    /// Requests that want a seat, with their lease (ms).
    pub wanted: Vec<(ReservationId, Millis)>,
}

/// What became of a wanted seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// Taken now.
    Taken,
    /// The reservation had it before.
    Had,
    /// There is none.
    Full,
    /// The call has ended.
    Ended,
}

/// The seats after a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseReply {
    /// Seats that are taken.
    pub live: i64,
    /// Of them, those of requests that are not decided yet.
    pub undecided: i64,
    /// In the order of what was wanted.
    pub seats: Vec<Seat>,
}

/// For how long (ms) a seat counts as undecided if nobody says what became of the request.
pub const UNDECIDED: Millis = 1_000;

impl LeaseAccount {
    /// Takes a message.
    pub fn round(&mut self, generation: u64, now: Millis, round: &LeaseRound) -> LeaseReply {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        self.ended.retain(|_, at| *at + round.remember > now);
        self.seats.retain(|_, until| *until > now);
        self.undecided.retain(|_, until| *until > now);
        for id in &round.ended {
            self.ended.insert(*id, now);
        }
        for id in round.ended.iter().chain(&round.given_back) {
            self.seats.remove(id);
            self.undecided.remove(id);
        }
        for id in &round.decided {
            self.undecided.remove(id);
        }
        for (id, lease) in &round.extended {
            if !self.ended.contains_key(id) {
                self.seats.insert(*id, now + lease);
            }
        }
        let seats = round.wanted.iter().map(|(id, lease)| self.want(*id, now, *lease, round.cap)).collect();
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        LeaseReply { live: count(self.seats.len()), undecided: count(self.undecided.len()), seats }
    }

    fn want(&mut self, id: ReservationId, now: Millis, lease: Millis, cap: i64) -> Seat {
        if self.ended.contains_key(&id) {
            return Seat::Ended;
        }
        if self.seats.contains_key(&id) {
            return Seat::Had;
        }
        if i64::try_from(self.seats.len()).unwrap_or(i64::MAX) >= cap {
            return Seat::Full;
        }
        self.seats.insert(id, now + lease);
        self.undecided.insert(id, now + UNDECIDED);
        Seat::Taken
    }

    /// The calls that have a seat.
    pub fn live(&self, now: Millis) -> impl Iterator<Item = ReservationId> {
        self.seats.iter().filter(move |(_, until)| **until > now).map(|(id, _)| *id)
    }
}
