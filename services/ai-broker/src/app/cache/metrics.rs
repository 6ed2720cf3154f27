//! What is counted about answers that are given again.

use metrics::{Counter, counter, describe_counter};

/// Handles to every metric of them.
pub(super) struct CacheMetrics {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) unavailable: Counter,
    pub(super) stored: Counter,
    pub(super) unstored: Counter,
    pub(super) too_large: Counter,
    pub(super) coalesced: Counter,
    pub(super) led_anew: Counter,
}

impl CacheMetrics {
    pub(super) fn new() -> Self {
        describe_counter!("weir_broker_cache_requests_total", "Requests that a kept answer might do for, by result.");
        describe_counter!("weir_broker_cache_answers_total", "Answers that were to be kept, by result.");
        describe_counter!("weir_broker_coalesced_total", "Requests that got the answer of the same one under way.");
        describe_counter!(
            "weir_broker_coalesced_anew_total",
            "Requests that waited for another's call, which was refused."
        );
        let requests = |result: &'static str| counter!("weir_broker_cache_requests_total", "result" => result);
        let answers = |result: &'static str| counter!("weir_broker_cache_answers_total", "result" => result);
        Self {
            hits: requests("hit"),
            misses: requests("miss"),
            unavailable: requests("unavailable"),
            stored: answers("stored"),
            unstored: answers("not_stored"),
            too_large: answers("too_large"),
            coalesced: counter!("weir_broker_coalesced_total"),
            led_anew: counter!("weir_broker_coalesced_anew_total"),
        }
    }
}
