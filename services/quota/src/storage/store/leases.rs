//! Lengthening leases, announcing them again, taking them over.

use std::time::Duration;

use weir_types::ReservationId;

use super::Record;
use crate::domain::{LimitId, Millis, Value};

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// It lives on.
    Extended,
    /// Settled before.
    Settled,
    /// Not known, or only from a former generation.
    Unknown,
}

/// A reservation to count again.
#[derive(Debug)]
pub struct Announce {
    /// Which.
    pub id: ReservationId,
    /// Its record, in the present generation.
    pub record: Record,
    /// How long it may stay unsettled.
    pub lease: Duration,
    /// What it holds.
    pub counters: Vec<AnnounceCounter>,
    /// The concurrency limits that it counts in.
    pub concurrent: Vec<(LimitId, Value)>,
    /// Whether the counters of today's plan have been loaded for it: one that is missing then is in no plan any more.
    pub loaded: bool,
}

/// One counter of it.
#[derive(Debug)]
pub struct AnnounceCounter {
    /// Whose.
    pub value: Value,
    /// Of which limit.
    pub limit: LimitId,
    /// The period's start, or the end of the bucket.
    pub place: Millis,
    /// How much.
    pub amount: i64,
    /// The length of a rolling window.
    pub rolling: Option<Millis>,
    /// Whether Postgres knows its total.
    pub durable: bool,
}

/// What became of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It was there after all.
    Extended,
    /// It counts again.
    Announced,
    /// Settled before.
    Settled,
    /// Counters must be loaded first.
    Cold,
}

/// A reservation that was taken over.
#[derive(Debug)]
pub struct Expired {
    /// Which.
    pub id: ReservationId,
    /// What is known of it.
    pub record: Record,
}

/// A reservation that is not settled.
#[derive(Debug)]
pub struct Holder {
    /// Which.
    pub id: ReservationId,
    /// What is known of it.
    pub record: Record,
    /// How much of its lease is left; less than nothing if it has ended.
    pub lease_left: Millis,
}

/// Reservations that are not settled.
#[derive(Debug, Default)]
pub struct Holders {
    /// Those that were asked for.
    pub list: Vec<Holder>,
    /// How many there are; where that is more than was asked for, at least so many.
    pub all: i64,
}
