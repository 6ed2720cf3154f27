//! Postgres, the truth; the fast store, which decides.

pub mod accounts;
pub mod alerts;
pub mod counters;
pub mod endings;
pub mod entitlements;
pub mod epochs;
pub mod limits;
pub mod memory;
pub mod moves;
pub mod redis;
pub mod refusals;
pub mod settlements;
pub mod store;

pub use store::Store;
