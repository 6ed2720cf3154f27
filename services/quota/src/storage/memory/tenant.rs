//! All that one tenant has: its subjects' counters, its reservations, their leases.

use std::collections::BTreeSet;

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;
use std::hash::BuildHasher as _;
use weir_types::ReservationId;

use super::concurrency::{Concurrency, Members};
use super::index::Index;
use super::slab::Slab;
use super::subject::{Subject, Whose};
use crate::domain::handle::Body;
use crate::domain::{Decided, Millis, Value};
use crate::storage::store::{Ending, LeaseCount, Record};

/// One tenant. Every operation is one call with the tenant locked.
#[derive(Debug)]
pub(super) struct Tenant {
    /// Stands as long as the tenant is not forgotten and no settlement has come that a counter which is being loaded may lack; none
    /// until somebody asks for it.
    pub(super) fence: Option<u64>,
    hasher: DefaultHashBuilder,
    pub(super) subjects: Slab<Subject>,
    /// Of the tenant as a whole; the others are found by their hash.
    organization: Option<u32>,
    by_value: Index,
    pub(super) reservations: Slab<Reservation>,
    by_id: Index,
    /// When leases end, and whose.
    pub(super) leases: BTreeSet<(Millis, u32)>,
    pub(super) concurrency: Concurrency,
    /// How much memory it has taken since that was last asked, in bytes.
    pub(super) grown: isize,
}

/// A reservation, held or settled.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) id: ReservationId,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Held(Box<Held>),
    Settled(Mark),
}

/// What a held reservation holds; its handle says where.
#[derive(Debug)]
pub(super) struct Held {
    /// In which generation it was counted.
    pub(super) generation: u64,
    pub(super) reserved_at: Millis,
    /// When its lease ends.
    pub(super) ends: Millis,
    /// Until when it counts as under way.
    pub(super) live_until: Millis,
    /// In which concurrency limits.
    pub(super) concurrent: Members,
    pub(super) kept: Kept,
}

/// The handle without its time, and the caller's context, in one piece.
#[derive(Debug)]
pub(super) struct Kept {
    version: u8,
    tail: u32,
    context: u32,
    /// The handle's tail, the context, and used and held of each counter.
    bytes: Box<[u8]>,
}

/// That a reservation is settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: Millis,
    pub(super) ending: Ending,
    /// Whether its lease had ended.
    pub(super) late: bool,
}

/// What a slot costs beside the value itself: its place in an index.
const INDEXED: usize = 12;
/// A lease's place in the order.
const LEASE: usize = 24;

impl Tenant {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Self {
            fence: None,
            hasher,
            subjects: Slab::new(),
            organization: None,
            by_value: Index::new(),
            reservations: Slab::new(),
            by_id: Index::new(),
            leases: BTreeSet::new(),
            concurrency: Concurrency::default(),
            grown: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subjects.len() == 0 && self.reservations.len() == 0
    }

    fn hash_of(&self, value: &Value) -> u64 {
        match value {
            Value::User(id) => self.hasher.hash_one((1_u8, id.as_uuid().as_u128())),
            Value::ApiKey(id) => self.hasher.hash_one((2_u8, id.as_uuid().as_u128())),
            other => self.hasher.hash_one(other.field()),
        }
    }

    /// Where a subject's counters are.
    pub(super) fn find(&self, value: &Value) -> Option<u32> {
        if *value == Value::Organization {
            return self.organization;
        }
        let is = |slot| self.subjects.get(slot).is_some_and(|subject| subject.whose.is(value));
        self.by_value.find(self.hash_of(value), is)
    }

    /// A subject's counters.
    pub(super) fn subject(&mut self, value: &Value) -> Option<&mut Subject> {
        let slot = self.find(value)?;
        self.subjects.get_mut(slot)
    }

    /// Puts a subject that is not there.
    pub(super) fn add(&mut self, value: &Value, subject: Subject) -> u32 {
        self.account(size_of::<Subject>() + INDEXED + subject.heap(), 0);
        let slot = self.subjects.insert(subject);
        if *value == Value::Organization {
            self.organization = Some(slot);
        } else {
            self.by_value.insert(self.hash_of(value), slot);
        }
        slot
    }

    /// Takes a subject away.
    pub(super) fn drop_subject(&mut self, slot: u32) {
        let Some(subject) = self.subjects.remove(slot) else { return };
        self.account(0, size_of::<Subject>() + INDEXED + subject.heap());
        match subject.whose.value() {
            Some(Value::Organization) | None => self.organization = None,
            Some(value) => self.by_value.remove(self.hash_of(&value), slot),
        }
    }

    /// Notes that memory was taken and given up.
    pub(super) fn account(&mut self, taken: usize, given_up: usize) {
        self.grown += taken.cast_signed() - given_up.cast_signed();
    }

    fn hash_of_id(&self, id: &ReservationId) -> u64 {
        self.hasher.hash_one(id.as_uuid().as_u128())
    }

    /// Where a reservation is.
    pub(super) fn find_reservation(&self, id: &ReservationId) -> Option<u32> {
        let is = |slot| self.reservations.get(slot).is_some_and(|reservation| reservation.id == *id);
        self.by_id.find(self.hash_of_id(id), is)
    }

    /// A reservation.
    pub(super) fn reservation(&self, id: &ReservationId) -> Option<&State> {
        Some(&self.reservations.get(self.find_reservation(id)?)?.state)
    }

    /// Puts a held reservation that is not there, with its lease.
    pub(super) fn hold(&mut self, id: ReservationId, held: Held) -> u32 {
        self.account(size_of::<Reservation>() + INDEXED + held.heap(), 0);
        let (hash, ends, until) = (self.hash_of_id(&id), held.ends, held.live_until);
        let concurrent = held.concurrent.clone();
        let slot = self.reservations.insert(Reservation { id, state: State::Held(Box::new(held)) });
        self.by_id.insert(hash, slot);
        self.leases.insert((ends, slot));
        self.concurrency.begin(slot, until, &concurrent);
        slot
    }

    /// Ends a reservation's lease and leaves the mark that it is settled.
    pub(super) fn end(&mut self, id: ReservationId, mark: Mark) {
        let Some(slot) = self.find_reservation(&id) else {
            self.account(size_of::<Reservation>() + INDEXED, 0);
            let slot = self.reservations.insert(Reservation { id, state: State::Settled(mark) });
            self.by_id.insert(self.hash_of_id(&id), slot);
            return;
        };
        let Some(reservation) = self.reservations.get_mut(slot) else { return };
        if let State::Held(held) = std::mem::replace(&mut reservation.state, State::Settled(mark)) {
            self.leases.remove(&(held.ends, slot));
            self.concurrency.end(slot, held.live_until, &held.concurrent);
            self.account(0, held.heap());
        }
    }

    /// How many leases there are.
    pub(super) fn lease_count(&self, now: Millis) -> LeaseCount {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let expired = self.leases.range(..=(now, u32::MAX)).count();
        LeaseCount { all: count(self.leases.len()), expired: count(expired) }
    }

    /// Takes a reservation away, held or settled, as if it had never been there.
    pub(super) fn let_go(&mut self, slot: u32) {
        let Some(reservation) = self.reservations.remove(slot) else { return };
        self.by_id.remove(self.hash_of_id(&reservation.id), slot);
        let mut heap = 0;
        if let State::Held(held) = reservation.state {
            self.leases.remove(&(held.ends, slot));
            self.concurrency.end(slot, held.live_until, &held.concurrent);
            heap = held.heap();
        }
        self.account(0, size_of::<Reservation>() + INDEXED + heap);
    }

    /// Takes a held reservation out, to be put back by [`hold`](Self::hold).
    pub(super) fn take_out(&mut self, slot: u32) -> Option<Held> {
        let reservation = self.reservations.remove(slot)?;
        self.by_id.remove(self.hash_of_id(&reservation.id), slot);
        let State::Held(held) = reservation.state else { return None };
        self.leases.remove(&(held.ends, slot));
        self.concurrency.end(slot, held.live_until, &held.concurrent);
        self.account(0, size_of::<Reservation>() + INDEXED + held.heap());
        Some(*held)
    }

    /// Moves the end of a lease. Whether the reservation then counts as under way for longer is another matter.
    pub(super) fn lease(&mut self, slot: u32, ends: Millis, live: bool) {
        let Some(State::Held(held)) = self.reservations.get_mut(slot).map(|reservation| &mut reservation.state) else {
            return;
        };
        self.leases.remove(&(held.ends, slot));
        self.leases.insert((ends, slot));
        held.ends = ends;
        if live {
            self.concurrency.prolong(slot, held.live_until, ends, &held.concurrent);
            held.live_until = ends;
        }
    }
}

impl Held {
    /// For those who read.
    pub(super) fn record(&self) -> Record {
        let (tail, context, decision) = self.kept.parts();
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
        let decided = |pair: &[u8]| Decided { used: number(&pair[..8]), held: number(&pair[8..]) };
        let decision = decision.chunks_exact(16).map(decided).collect();
        let body = Body { version: self.kept.version, tail: tail.to_vec(), decision };
        Record { generation: self.generation, reserved_at: self.reserved_at, body, context: context.to_vec() }
    }

    fn heap(&self) -> usize {
        size_of::<Self>() + self.kept.bytes.len() + LEASE
    }
}

impl Kept {
    pub(super) fn new(version: u8, tail: &[u8], context: &[u8], decision: &[Decided]) -> Self {
        let mut bytes = Vec::with_capacity(tail.len() + context.len() + 16 * decision.len());
        bytes.extend_from_slice(tail);
        bytes.extend_from_slice(context);
        for decided in decision {
            bytes.extend_from_slice(&decided.used.to_le_bytes());
            bytes.extend_from_slice(&decided.held.to_le_bytes());
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { version, tail: length(tail), context: length(context), bytes: bytes.into() }
    }

    /// The handle's tail, the context, the decision.
    pub(super) fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (tail, rest) = self.bytes.split_at(self.tail as usize);
        let (context, decision) = rest.split_at(self.context as usize);
        (tail, context, decision)
    }
}

impl Whose {
    /// The subject of a value that is not there yet.
    pub(super) fn new_subject(value: &Value, generation: u64, layout: u64) -> Subject {
        Subject { whose: Self::of(value), generation, layout, sweep_after: 0, counters: SmallVec::new() }
    }
}
