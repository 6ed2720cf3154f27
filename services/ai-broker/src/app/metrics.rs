//! The broker's metrics: looked up once, counted on the hot path.

use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use weir_proto::usage::v1::Outcome;

/// Handles to every metric of the broker.
pub(crate) struct Metrics {
    complete: Counter,
    cancelled: Counter,
    broken: Counter,
    unknown: Counter,
    provider_seconds: Histogram,
    first_byte_seconds: Histogram,
    provider_rate_limits: Counter,
    provider_refusals: Counter,
    provider_failures: Counter,
    pub(crate) retries: Counter,
    pub(crate) fallbacks: Counter,
    pub(crate) queued: Counter,
    pub(crate) queue_seconds: Histogram,
    pub(crate) taken_over: Counter,
    pub(crate) settle_batches: Counter,
    pub(crate) settle_failures: Counter,
    pub(crate) settle_refusals: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_counter!("weir_broker_calls_total", "Provider calls that ended, by outcome.");
        describe_counter!("weir_broker_provider_errors_total", "Errors that providers answered, by class.");
        describe_counter!("weir_broker_retries_total", "Attempts after the first.");
        describe_counter!("weir_broker_queued_total", "Calls that had to wait for a provider without room.");
        describe_histogram!("weir_broker_queue_seconds", "How long a call waited for its turn.");
        describe_counter!("weir_broker_fallbacks_total", "Calls that went on to another target of their route.");
        describe_counter!("weir_broker_taken_over_total", "Expired reservations that were settled here.");
        describe_counter!("weir_broker_settlements_total", "Batches sent to usage and quota, by result.");
        describe_histogram!("weir_broker_provider_seconds", "From the request to the provider until its last byte.");
        describe_histogram!("weir_broker_first_byte_seconds", "From the request to the provider until its first byte.");
        let calls = |outcome: &'static str| counter!("weir_broker_calls_total", "outcome" => outcome);
        let errors = |class: &'static str| counter!("weir_broker_provider_errors_total", "class" => class);
        let settlements = |result: &'static str| counter!("weir_broker_settlements_total", "result" => result);
        Self {
            complete: calls("complete"),
            cancelled: calls("cancelled"),
            broken: calls("broken"),
            unknown: calls("unknown"),
            provider_seconds: histogram!("weir_broker_provider_seconds"),
            first_byte_seconds: histogram!("weir_broker_first_byte_seconds"),
            provider_rate_limits: errors("rate_limited"),
            provider_refusals: errors("refused"),
            provider_failures: errors("failed"),
            retries: counter!("weir_broker_retries_total"),
            fallbacks: counter!("weir_broker_fallbacks_total"),
            queued: counter!("weir_broker_queued_total"),
            queue_seconds: histogram!("weir_broker_queue_seconds"),
            taken_over: counter!("weir_broker_taken_over_total"),
            settle_batches: settlements("settled"),
            settle_failures: settlements("failed"),
            settle_refusals: settlements("refused"),
        }
    }

    /// A call ended.
    pub(crate) fn ended(&self, outcome: Outcome, latency: Duration, first_byte: Duration) {
        let counter = match outcome {
            Outcome::Complete => &self.complete,
            Outcome::Cancelled => &self.cancelled,
            Outcome::Broken => &self.broken,
            Outcome::Unknown | Outcome::Unspecified => &self.unknown,
        };
        counter.increment(1);
        self.provider_seconds.record(latency.as_secs_f64());
        self.first_byte_seconds.record(first_byte.as_secs_f64());
    }

    /// A provider answered with an error.
    pub(crate) fn provider_error(&self, status: StatusCode) {
        match status.as_u16() {
            429 => self.provider_rate_limits.increment(1),
            400..500 => self.provider_refusals.increment(1),
            _ => self.provider_failures.increment(1),
        }
    }
}
