//! Postgres, the truth; Redis, the fast path.

pub mod counters;
pub mod entitlements;
pub mod epochs;
pub mod limits;
pub mod redis;
pub mod settlements;
