//! The W3C trace context (<https://www.w3.org/TR/trace-context/>) in HTTP headers, and with it in gRPC metadata.
//!
//! All of it is free while no traces are exported.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use opentelemetry::Context;

static EXPORTING: AtomicBool = AtomicBool::new(false);

pub(crate) fn exporting_started() {
    EXPORTING.store(true, Ordering::Relaxed);
}

/// Whether traces leave this process.
#[must_use]
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Writes the current span's `traceparent` and `tracestate`, if there is a span.
pub fn inject(headers: &mut HeaderMap) {
    if is_exporting() {
        TraceContextPropagator::new().inject_context(&Context::current(), &mut Headers(headers));
    }
}

/// Reads the caller's `traceparent` and `tracestate`; an absent or malformed one gives an empty context.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeadersRef(headers))
}

/// Makes `span`, which has not been entered yet, a child of the caller's.
pub fn continue_trace(span: &tracing::Span, headers: &HeaderMap) {
    if is_exporting() {
        // Refused only for a span that is not recorded, which then has nothing to continue.
        let _ = span.set_parent(extract(headers));
    }
}

/// The current trace's id in hexadecimal.
#[must_use]
pub fn trace_id() -> Option<String> {
    if !is_exporting() {
        return None;
    }
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            // An empty tracestate says nothing and costs a header on every call.
            if !value.is_empty() {
                self.0.insert(name, value);
            }
        }
    }
}

struct HeadersRef<'a>(&'a HeaderMap);

impl Extractor for HeadersRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use opentelemetry::trace::TraceContextExt as _;

    use super::extract;

    #[test]
    fn a_callers_context_is_read_and_a_malformed_one_ignored() {
        let mut headers = HeaderMap::new();
        headers
            .insert("traceparent", HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        let context = extract(&headers);
        assert_eq!(context.span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        headers.insert("traceparent", HeaderValue::from_static("00-zz-b7ad6b7169203331-01"));
        assert!(!extract(&headers).span().span_context().is_valid());
    }
}
