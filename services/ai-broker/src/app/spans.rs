//! A span for each provider request, in OpenTelemetry's words for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>); what those have no word for begins with `weir.`.

use tracing::Span;
use tracing::field::Empty;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_types::ReservationId;

use super::call::ModelCall;
use crate::domain::api::Api;

/// A provider request that begins now, in the caller's trace. Without an exporter it is nothing.
pub(crate) fn provider_request(call: &ModelCall, id: ReservationId) -> Span {
    let operation = operation(call.request.api);
    tracing::info_span!(
        target: "weir_broker",
        "provider request",
        otel.name = %format_args!("{operation} {}", call.route.model),
        otel.kind = "client",
        otel.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = call.route.provider,
        gen_ai.request.model = call.route.model,
        gen_ai.request.max_tokens = call.request.max_output,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        "error.type" = Empty,
        weir.reservation.id = %id,
        weir.route = call.route.id,
        weir.stream = call.request.stream,
        weir.queue_ms = millis(call.waiting.waited_so_far()),
        weir.first_byte_ms = Empty,
        weir.usage.cached_input_tokens = Empty,
        weir.cost_nano_usd = Empty,
        weir.estimated = Empty,
    )
}

/// It was charged.
pub(crate) fn charged(span: &Span, event: &UsageEvent) {
    span.record("gen_ai.usage.input_tokens", event.input_tokens);
    span.record("gen_ai.usage.output_tokens", event.output_tokens);
    span.record("weir.usage.cached_input_tokens", event.cached_input_tokens);
    span.record("weir.cost_nano_usd", event.cost_nano_usd);
    span.record("weir.estimated", event.estimated);
    span.record("weir.first_byte_ms", event.first_byte_ms);
    match event.outcome() {
        Outcome::Complete => {}
        Outcome::Cancelled => failed(span, "cancelled"),
        Outcome::Broken => failed(span, "broken"),
        Outcome::Unknown | Outcome::Unspecified => failed(span, "timeout"),
    }
}

/// It came to nothing: an HTTP status, or a word.
pub(crate) fn failed(span: &Span, error: &str) {
    span.record("error.type", error);
    span.record("otel.status_code", "error");
}

/// The conventions' word where they have one.
const fn operation(api: Api) -> &'static str {
    match api {
        Api::Chat | Api::Messages | Api::Responses => "chat",
        Api::Embeddings => "embeddings",
        // Not one of them.
        Api::CountTokens => "count_tokens",
        Api::Transcriptions => "transcription",
        Api::Speech | Api::TextToSpeech => "speech",
        Api::Images | Api::ImageEdits | Api::FalQueue => "image_generation",
    }
}

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
