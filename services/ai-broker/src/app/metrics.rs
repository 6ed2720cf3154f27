//! The broker's metrics: looked up once, counted on the hot path.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use parking_lot::RwLock;
use weir_proto::usage::v1::{Outcome, UsageEvent};

/// Handles to every metric of the broker.
pub(crate) struct Metrics {
    complete: Counter,
    cancelled: Counter,
    broken: Counter,
    unknown: Counter,
    provider_seconds: Histogram,
    first_byte_seconds: Histogram,
    pub(crate) retries: Counter,
    pub(crate) fallbacks: Counter,
    pub(crate) queued: Counter,
    pub(crate) queue_seconds: Histogram,
    pub(crate) taken_over: Counter,
    pub(crate) settle_batches: Counter,
    pub(crate) settle_failures: Counter,
    pub(crate) settle_refusals: Counter,
    /// By provider, then by model: those of the price book that have been called.
    models: RwLock<HashMap<String, HashMap<String, Arc<ModelMetrics>>>>,
}

/// What calls of one model at one provider used.
struct ModelMetrics {
    calls: Counter,
    input_tokens: Counter,
    cached_input_tokens: Counter,
    output_tokens: Counter,
    cost: Counter,
    tokens_per_second: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_counter!("weir_broker_calls_total", "Provider calls that ended, by outcome.");
        describe_counter!(
            "weir_broker_provider_errors_total",
            "Errors that providers answered, by class and provider."
        );
        describe_counter!("weir_broker_retries_total", "Attempts after the first.");
        describe_counter!("weir_broker_queued_total", "Calls that had to wait for a provider without room.");
        describe_histogram!("weir_broker_queue_seconds", "How long a call waited for its turn.");
        describe_counter!("weir_broker_fallbacks_total", "Calls that went on to another target of their route.");
        describe_counter!("weir_broker_taken_over_total", "Expired reservations that were settled here.");
        describe_counter!("weir_broker_settlements_total", "Batches sent to usage and quota, by result.");
        describe_histogram!("weir_broker_provider_seconds", "From the request to the provider until its last byte.");
        describe_histogram!("weir_broker_first_byte_seconds", "From the request to the provider until its first byte.");
        describe_counter!("weir_broker_model_calls_total", "Calls that were charged, by provider and model.");
        describe_counter!("weir_broker_tokens_total", "Tokens that were charged; cached ones are a part of the input.");
        describe_counter!("weir_broker_cost_nano_usd_total", "What calls cost, in nano-USD.");
        describe_histogram!("weir_broker_output_tokens_per_second", "How fast an answer came, once it had begun.");
        let calls = |outcome: &'static str| counter!("weir_broker_calls_total", "outcome" => outcome);
        let settlements = |result: &'static str| counter!("weir_broker_settlements_total", "result" => result);
        Self {
            complete: calls("complete"),
            cancelled: calls("cancelled"),
            broken: calls("broken"),
            unknown: calls("unknown"),
            provider_seconds: histogram!("weir_broker_provider_seconds"),
            first_byte_seconds: histogram!("weir_broker_first_byte_seconds"),
            retries: counter!("weir_broker_retries_total"),
            fallbacks: counter!("weir_broker_fallbacks_total"),
            queued: counter!("weir_broker_queued_total"),
            queue_seconds: histogram!("weir_broker_queue_seconds"),
            taken_over: counter!("weir_broker_taken_over_total"),
            settle_batches: settlements("settled"),
            settle_failures: settlements("failed"),
            settle_refusals: settlements("refused"),
            models: RwLock::default(),
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

    /// A call was charged.
    pub(crate) fn charged(&self, event: &UsageEvent) {
        let of = self.of_model(&event.provider, &event.model);
        let add = |counter: &Counter, count: i64| counter.increment(count.max(0).unsigned_abs());
        of.calls.increment(1);
        add(&of.input_tokens, event.input_tokens);
        add(&of.cached_input_tokens, event.cached_input_tokens);
        add(&of.output_tokens, event.output_tokens);
        add(&of.cost, event.cost_nano_usd);
        let answering = event.latency_ms - event.first_byte_ms;
        if !event.estimated && event.output_tokens > 0 && answering > 0 {
            of.tokens_per_second.record(event.output_tokens as f64 * 1000.0 / answering as f64);
        }
    }

    fn of_model(&self, provider: &str, model: &str) -> Arc<ModelMetrics> {
        if let Some(known) = self.models.read().get(provider).and_then(|models| models.get(model)) {
            return Arc::clone(known);
        }
        let mut models = self.models.write();
        let of_provider = models.entry(provider.to_owned()).or_default();
        Arc::clone(of_provider.entry(model.to_owned()).or_insert_with(|| Arc::new(ModelMetrics::new(provider, model))))
    }

    /// A provider answered with an error.
    pub(crate) fn provider_error(&self, provider: &str, status: StatusCode) {
        let class = match status.as_u16() {
            429 => "rate_limited",
            400..500 => "refused",
            _ => "failed",
        };
        counter!("weir_broker_provider_errors_total", "class" => class, "provider" => provider.to_owned()).increment(1);
    }
}

impl ModelMetrics {
    fn new(provider: &str, model: &str) -> Self {
        let labels = || [("provider", provider.to_owned()), ("model", model.to_owned())];
        let tokens = |kind: &'static str| {
            let [provider, model] = labels();
            counter!("weir_broker_tokens_total", &[provider, model, ("kind", kind.to_owned())])
        };
        Self {
            calls: counter!("weir_broker_model_calls_total", &labels()),
            input_tokens: tokens("input"),
            cached_input_tokens: tokens("cached_input"),
            output_tokens: tokens("output"),
            cost: counter!("weir_broker_cost_nano_usd_total", &labels()),
            tokens_per_second: histogram!("weir_broker_output_tokens_per_second", &labels()),
        }
    }
}
