//! What the books are, without any I/O: events, what becomes of them, and the sums that they move.

mod books;
mod event;
mod hash;
mod query;
mod rollup;
mod validate;

pub use books::{Disposition, Entry, Fresh, Plan, Recorded, Supersession, plan};
pub use event::{Event, Outcome};
pub use hash::PayloadHash;
pub use query::{Bucket, Dimension, Filter, FilterValue, InvalidQuery, MAX_RANGE, Query};
pub use rollup::{RollupKey, SumOverflow, Sums, hour_of};
pub use validate::{Horizon, Invalid, validate};
