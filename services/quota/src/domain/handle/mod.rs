//! What settles a reservation even if the fast store has lost it.
//!
//! Version 4: `4, reserved at (u64), reservation (16), organisation (16)`, the subject's values, the amounts, the counters, the
//! concurrency limits, the limits across tenants, the decision. Numbers after the ids are LEB128. A counter's limit is its number,
//! doubled, and 1 more if the reservation has brought it. Of limits across tenants there is a part for each growth, with its number
//! and its time. Six limits of an organisation, a user and a key take about 220 bytes.
//!
//! Versions 2 and 3 do not say which limits were brought; of limits across tenants 2, which has not grown, has one part at most.
//! Version 1 has neither caps nor a decision. All are read as long as there may be one, which is as long as a lease or a settlement
//! is kept.

mod reading;
mod writing;

use uuid::Uuid;
use weir_types::{OrganizationId, ReservationId};

use super::demand::bucket_end;
use super::shared::{AccountKey, HolderId};
use super::{Amounts, Kind, LimitId, Millis, Value};

pub use self::writing::{Body, Draft};

/// A reservation: what it holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// When it was made, or has last grown, by the fast store's clock.
    pub reserved_at: Millis,
    /// Its id.
    pub reservation: ReservationId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The organisation and the subject's other values; counters refer to them.
    pub values: Vec<Value>,
    /// What was reserved.
    pub amounts: Amounts,
    /// The counters that it is held in.
    pub counters: Vec<HandleCounter>,
    /// The concurrency limits that it counts in.
    pub concurrent: Vec<HandleConcurrent>,
    /// What it holds of limits across tenants: what it began with, then what it grew by.
    pub shared: Vec<HandleShared>,
    /// What stood in each of the counters, and then in each of the concurrency limits, with the reservation. None if the store did
    /// not say: in version 1, and where it was admitted while the store was away.
    pub decision: Vec<Decided>,
}

/// One counter of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleCounter {
    /// Of which limit.
    pub limit: LimitId,
    /// Whose: a place in [`Handle::values`].
    pub value: usize,
    /// The start of the period, or the width of a rolling window's buckets.
    pub at: Millis,
    /// How much was reserved.
    pub amount: i64,
    /// The cap that applied; not known of version 1.
    pub cap: Option<i64>,
    /// Whether the reservation has brought the limit; before version 4, that it may have.
    pub brought: bool,
}

/// One concurrency limit of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleConcurrent {
    /// The limit.
    pub limit: LimitId,
    /// Whose: a place in [`Handle::values`].
    pub value: usize,
    /// The cap that applied; not known of version 1.
    pub cap: Option<i64>,
}

/// What a reservation took of limits across tenants at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandleShared {
    /// 0 when it was made, then counted up each time that it grew.
    pub growth: u8,
    /// When, by the fast store's clock; 0 before the store has said.
    pub taken_at: Millis,
    /// The process whose slices it was taken from.
    pub holder: HolderId,
    /// The limits.
    pub counters: Vec<SharedCounter>,
}

/// One limit across tenants of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCounter {
    /// The limit and whose counter.
    pub account: AccountKey,
    /// The start of the period, or the width of a rolling window's buckets; none of a concurrency limit.
    pub at: Option<Millis>,
    /// How much was reserved.
    pub amount: i64,
    /// The cap that applied.
    pub cap: i64,
    /// Whether the reservation has brought the limit; before version 4, that it may have.
    pub brought: bool,
}

impl HandleShared {
    /// The id under which it is counted there: each growth has one of its own, so that it is counted once, like any reservation.
    #[must_use]
    pub fn entry(&self, reservation: ReservationId) -> ReservationId {
        entry(reservation, self.growth)
    }

    /// Whether this is what was taken, at whatever time the store did it. A growth that was not answered may have been repeated
    /// with other amounts, or through another process.
    #[must_use]
    pub fn is_what_was_taken(&self, other: &Self) -> bool {
        (self.growth, self.holder, &self.counters) == (other.growth, other.holder, &other.counters)
    }
}

/// The id under which what a reservation takes of limits across tenants is counted.
#[must_use]
pub fn entry(reservation: ReservationId, growth: u8) -> ReservationId {
    let mut bytes = *reservation.as_uuid().as_bytes();
    // Random bits of a UUIDv7, which nobody else has.
    bytes[15] ^= growth;
    Uuid::from_bytes(bytes).into()
}

impl SharedCounter {
    /// The period's start, or the end of the bucket that it was counted in; 0 of a concurrency limit.
    #[must_use]
    pub const fn place(&self, kind: Kind, taken_at: Millis) -> Millis {
        match self.at {
            Some(at) if kind.is_rolling() => bucket_end(taken_at, at),
            Some(at) => at,
            None => 0,
        }
    }
}

/// What stood in a counter when a reservation was made, the reservation included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
}

/// Bytes that are no handle of this version, or of another reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the handle of this reservation")]
pub struct InvalidHandle;

/// The version that is written.
pub const VERSION: u8 = 4;
/// The oldest version that is read.
const OLDEST: u8 = 1;
/// The first version that has a decision, and the caps that applied.
const DECIDED: u8 = 2;
/// The first version that has a part of limits across tenants for each growth.
const GROWN: u8 = 3;
/// The first version that says which limits were brought.
const BROUGHT: u8 = 4;
/// Version and time.
const HEAD: usize = 9;

impl HandleCounter {
    /// The period's start, or the end of the bucket that it was counted in.
    #[must_use]
    pub const fn place(&self, kind: Kind, reserved_at: Millis) -> Millis {
        if kind.is_rolling() { bucket_end(reserved_at, self.at) } else { self.at }
    }
}

impl Handle {
    /// Reads what [`Draft::at`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidHandle> {
        reading::decode(bytes).map(|(handle, _)| handle)
    }

    /// When it was reserved, without reading the rest; none if it is no handle.
    #[must_use]
    pub fn peek_reserved_at(bytes: &[u8]) -> Option<Millis> {
        let version = *bytes.first()?;
        let known = (OLDEST..=VERSION).contains(&version);
        known.then_some(Millis::from_le_bytes(bytes.get(1..9)?.try_into().ok()?))
    }

    /// Everything that it holds of limits across tenants, with when and how it was taken.
    pub fn across(&self) -> impl Iterator<Item = (&HandleShared, &SharedCounter)> {
        self.shared.iter().flat_map(|part| part.counters.iter().map(move |counter| (part, counter)))
    }

    /// Whether it took more of a limit across tenants after this growth. What it uses counts where it last took of it.
    #[must_use]
    pub fn holds_later(&self, growth: u8, account: &AccountKey) -> bool {
        self.across().any(|(part, counter)| part.growth > growth && counter.account == *account)
    }

    /// The concurrency limits that it counts in, with whose counters they are.
    #[must_use]
    pub fn places(&self) -> Vec<(LimitId, Value)> {
        self.concurrent.iter().map(|one| (one.limit, self.values[one.value].clone())).collect()
    }
}
