//! Reserving, and reading without reserving.

use std::time::Duration;

use weir_types::{OrganizationId, ReservationId};

use super::ApplyCounter;
use crate::domain::handle::{Body, Draft};
use crate::domain::{Decided, Demand, InvalidHandle, LimitId, Millis, SubjectState, Value};

/// A reservation to make.
#[derive(Debug)]
pub struct Reserve<'a> {
    /// Its id.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// The counters and amounts.
    pub demand: &'a Demand<'a>,
    /// What its handle will say.
    pub draft: &'a Draft,
    /// The caller's.
    pub context: &'a [u8],
    /// How long it may stay unsettled.
    pub lease: Duration,
    /// Whether the store's clock must be inside the periods.
    pub check_clock: bool,
}

/// A held reservation that shall hold more: what it holds is given back and the whole reserved anew, in one step or not at all.
#[derive(Debug)]
pub struct Grow<'a> {
    /// The whole, as of now.
    pub whole: Reserve<'a>,
    /// When it was made or last grew: another time means that it has grown meanwhile.
    pub reserved_at: Millis,
    /// What it holds.
    pub held: Vec<ApplyCounter>,
    /// The concurrency limits that it counts in, and goes on to.
    pub concurrent: Vec<(LimitId, Value)>,
}

/// What the store says to a reservation.
#[derive(Debug)]
pub enum Admission {
    /// Held.
    Admitted {
        /// When, by the store's clock.
        at: Millis,
        /// What stands in each window and then in each concurrency limit, this reservation included.
        decision: Vec<Decided>,
    },
    /// A limit refuses; nothing was written.
    Refused(Reading),
    /// It is held already.
    Duplicate(Record),
    /// The id is held with other amounts or another subject. Of one that shall grow: it is not what it was thought to be.
    Reused,
    /// The id was settled before.
    Settled,
    /// Counters must be loaded first.
    Cold,
    /// The store's clock is outside a period: it is this late there.
    OutsidePeriod(Millis),
    /// A counter is in a later period, which began at this time.
    LaterPeriod(Millis),
}

/// Counters as they stand.
#[derive(Debug)]
pub struct Reading {
    /// The store's clock.
    pub at: Millis,
    /// Calls under way, by concurrency limit.
    pub live: Vec<i64>,
    /// By part; none where nothing is stored.
    pub states: Vec<Option<SubjectState>>,
}

/// A held reservation as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In which generation it was counted.
    pub generation: u64,
    /// When it was made.
    pub reserved_at: Millis,
    /// The handle without its time.
    pub body: Body,
    /// The caller's.
    pub context: Vec<u8>,
}

impl Record {
    /// The handle.
    #[must_use]
    pub fn handle(&self) -> bytes::Bytes {
        self.body.at(self.reserved_at)
    }

    /// Of a handle, to be counted in this generation.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn of(
        handle: &[u8],
        reserved_at: Millis,
        generation: u64,
        context: &[u8],
    ) -> std::result::Result<Self, InvalidHandle> {
        Ok(Self { generation, reserved_at, body: Body::of(handle)?, context: context.to_vec() })
    }
}
