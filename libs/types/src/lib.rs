//! What all services speak of: ids, resource names, money, prices, units, time, page tokens.
//!
//! No I/O and no protobuf: everything here is a value.

mod clock;
mod ids;
mod money;
pub mod names;
mod page;
pub mod price;
mod scope;
pub mod unit;

pub use clock::{Clock, ManualClock, SystemClock};
pub use ids::{ApiKeyId, InvalidId, OrganizationId, ProviderKeyId, ReservationId, UserId};
pub use money::{InvalidUsd, NanoUsd, Overflow};
pub use page::{InvalidPageToken, NegativePageSize, PageToken, page_size};
pub use scope::{Scope, ScopeSet, UnknownScope};

/// The largest amount that is accepted anywhere: the largest integer that a double holds exactly,
/// because Redis scripts compute with doubles.
pub const MAX_AMOUNT: i64 = (1 << 53) - 1;
