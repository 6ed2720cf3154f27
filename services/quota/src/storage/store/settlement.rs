//! What Postgres has decided.

use weir_types::ReservationId;

use crate::domain::{LimitId, Millis, Value};

/// A settlement as it stands in Postgres.
#[derive(Debug)]
pub struct Apply {
    /// Which reservation.
    pub id: ReservationId,
    /// How it ended.
    pub ending: Ending,
    /// While which generation that was written just now; none if it was written before. What was read for a later one has it.
    pub written_in: Option<u64>,
    /// When what the handle says was reserved; none without a handle. What is held otherwise it does not end: see
    /// [`Applied::Held`].
    pub reserved_at: Option<Millis>,
    /// The counters that it was held in.
    pub counters: Vec<ApplyCounter>,
    /// The concurrency limits that it counted in.
    pub concurrent: Vec<(LimitId, Value)>,
}

/// What the store says to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It knows how the reservation ended, now or from before.
    Done {
        /// Whether its lease had ended.
        late: bool,
    },
    /// The reservation is held, and not as the settlement says: it came without a handle, or with that from before the reservation
    /// has grown. Nothing was changed. It must be applied again as the present handle says.
    Held,
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was used.
    Released,
    /// Committed with amounts that are assumed.
    Estimated,
    /// Committed.
    Final,
}

/// One counter of a settlement.
#[derive(Debug, Clone)]
pub struct ApplyCounter {
    /// Whose.
    pub value: Value,
    /// Of which limit.
    pub limit: LimitId,
    /// How it counts.
    pub kind: ApplyKind,
    /// The period's start, or the end of the bucket.
    pub place: Millis,
    /// What was held.
    pub reserved: i64,
    /// What was used.
    pub actual: i64,
    /// What an estimate had said that `actual` replaces.
    pub before: i64,
}

/// How a counter counts.
#[derive(Debug, Clone, Copy)]
pub enum ApplyKind {
    /// Its total and version in Postgres.
    Total(i64, i64),
    /// A sum that only the store has.
    Sum,
    /// Buckets of a window of this length; and whether Postgres has them, too.
    Rolling(Millis, bool),
}

impl Applied {
    /// Whether it is known that the lease had ended.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Done { late: true })
    }
}

impl Ending {
    /// By what a row says.
    #[must_use]
    pub const fn of(released: bool, estimated: bool) -> Self {
        match (released, estimated) {
            (true, _) => Self::Released,
            (false, true) => Self::Estimated,
            (false, false) => Self::Final,
        }
    }
}
