//! What is counted about calls with an idempotency key.

use metrics::{Counter, counter, describe_counter};

/// Handles to every metric of them.
pub(super) struct OnceMetrics {
    pub(super) claimed: Counter,
    pub(super) replayed: Counter,
    pub(super) conflicts: Counter,
    pub(super) in_progress: Counter,
    pub(super) lost: Counter,
    pub(super) unwritten: Counter,
}

impl OnceMetrics {
    pub(super) fn new() -> Self {
        describe_counter!("weir_broker_idempotent_requests_total", "Requests with an idempotency key, by result.");
        describe_counter!(
            "weir_broker_idempotent_unwritten_total",
            "Calls with an idempotency key whose end could not be written down."
        );
        let results = |result: &'static str| counter!("weir_broker_idempotent_requests_total", "result" => result);
        Self {
            claimed: results("made"),
            replayed: results("replayed"),
            conflicts: results("conflict"),
            in_progress: results("in_progress"),
            lost: results("not_repeatable"),
            unwritten: counter!("weir_broker_idempotent_unwritten_total"),
        }
    }
}
