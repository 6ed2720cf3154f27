//! Which tenants a store knows, and all that one of them has.

use weir_types::{OrganizationId, ReservationId};

use super::Record;
use crate::domain::{SubjectState, Value};

/// All that a tenant has in the store.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its counters.
    pub subjects: Vec<(Value, SubjectState)>,
    /// Its held reservations.
    pub held: Vec<(ReservationId, Record)>,
    /// How many leases have ended.
    pub expired: i64,
}

/// A list of tenants. Both are in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Those that may have leases.
    Leases,
    /// Those that may have anything.
    States,
}

/// A tenant on a list.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Which.
    pub id: OrganizationId,
    /// When it was put there last, in seconds since 1970 by the store's clock.
    pub registered: i64,
    /// How many seconds ago that was, by the same clock.
    pub idle: i64,
}

/// How many leases a tenant may have: more than it has if a store looks for what has ended late; none only if it has none.
#[derive(Debug, Clone, Copy)]
pub struct LeaseCount {
    /// In all.
    pub all: i64,
    /// That may have ended.
    pub expired: i64,
}
