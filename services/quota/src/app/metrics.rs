//! Counters of the hot path, looked up once.

use metrics::{Counter, counter};

/// What became of reservations.
pub(super) struct Metrics {
    pub(super) admitted: Counter,
    pub(super) refused: Counter,
    pub(super) repeated: Counter,
    /// Counters that had to be loaded first.
    pub(super) cold: Counter,
    /// Admitted although the store did not answer.
    pub(super) without_store: Counter,
    /// Admitted from this process's share while the store did not answer.
    pub(super) local: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let outcome = |outcome: &'static str| counter!("weir_quota_reservations_total", "outcome" => outcome);
        Self {
            admitted: outcome("admitted"),
            refused: outcome("refused"),
            repeated: outcome("repeated"),
            cold: counter!("weir_quota_cold_total"),
            without_store: outcome("admitted_without_store"),
            local: outcome("admitted_locally"),
        }
    }
}
