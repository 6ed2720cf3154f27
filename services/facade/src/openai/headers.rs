//! Headers of the OpenAI routes: what the call was and cost, and what is left of its limits.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use weir_proto::broker::v1::Accounting;
use weir_types::NanoUsd;

const COST: HeaderName = HeaderName::from_static("weir-cost-usd");
const MODEL: HeaderName = HeaderName::from_static("weir-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("weir-attempts");
const OVERHEAD: HeaderName = HeaderName::from_static("weir-overhead-ms");

/// The names of one kind's headers.
struct RateLimitNames {
    kind: &'static str,
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

static RATE_LIMITS: [RateLimitNames; 2] = [
    RateLimitNames {
        kind: "requests",
        limit: HeaderName::from_static("x-ratelimit-limit-requests"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
        reset: HeaderName::from_static("x-ratelimit-reset-requests"),
    },
    RateLimitNames {
        kind: "tokens",
        limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
        reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
    },
];

/// Says what a call was and cost. A stream's cost is not known when its headers go out.
pub(crate) fn accounted(headers: &mut HeaderMap, accounting: &Accounting) {
    headers.reserve(10);
    if accounting.cost_nano_usd > 0 || accounting.input_tokens > 0 {
        insert(headers, COST, &NanoUsd(accounting.cost_nano_usd).to_usd_string());
    }
    insert(headers, MODEL, &accounting.model);
    headers.insert(ATTEMPTS, HeaderValue::from(accounting.attempts));
    if let Some(overhead) = accounting.overhead {
        let micros = overhead.seconds * 1_000_000 + i64::from(overhead.nanos) / 1000;
        insert(headers, OVERHEAD, &format!("{}.{:03}", micros / 1000, micros % 1000));
    }
    for rate in &accounting.rate_limits {
        let Some(names) = RATE_LIMITS.iter().find(|names| names.kind == rate.kind) else { continue };
        headers.insert(names.limit.clone(), HeaderValue::from(rate.limit));
        headers.insert(names.remaining.clone(), HeaderValue::from(rate.remaining));
        if let Some(reset) = rate.reset_after {
            insert(headers, names.reset.clone(), &span(reset));
        }
    }
}

/// A span as OpenAI writes it: `1s`, `6m0s`, `250ms`.
fn span(duration: prost_types::Duration) -> String {
    let millis = duration.seconds * 1000 + i64::from(duration.nanos) / 1_000_000;
    match (millis / 60_000, millis % 60_000) {
        (0, rest) if rest < 1000 => format!("{rest}ms"),
        (0, rest) => format!("{}s", rest / 1000),
        (minutes, rest) => format!("{minutes}m{}s", rest / 1000),
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        let of = |seconds, nanos| span(prost_types::Duration { seconds, nanos });
        assert_eq!([of(0, 250_000_000), of(1, 1), of(360, 0), of(61, 500_000_000)], ["250ms", "1s", "6m0s", "1m1s"]);
    }
}
