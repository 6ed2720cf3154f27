//! Counters that are put in place.

use crate::domain::{LimitId, Millis, Value};

/// The counters of one subject, in the plan's order.
#[derive(Debug)]
pub struct InstallSubject {
    /// Whose.
    pub value: Value,
    /// [`PlanScope::layout`](crate::domain::PlanScope::layout).
    pub layout: u64,
    /// When nothing in it matters any more; -1 if never.
    pub sweep_after: i64,
    /// The counters.
    pub entries: Vec<(LimitId, bool, InstallEntry)>,
}

/// One counter; the flag beside it says whether it came from Postgres.
#[derive(Debug)]
pub enum InstallEntry {
    /// Of a period: its start, the committed total and its version.
    Period(Millis, i64, i64),
    /// Of a rolling window: its buckets by their end, oldest first.
    Rolling(Vec<(Millis, i64)>),
}
