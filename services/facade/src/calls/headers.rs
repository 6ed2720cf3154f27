//! Headers of the routes to models: what the call was and cost, and what is left of its limits.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat, Utc};
use weir_proto::broker::v1::{Accounting, RateLimit};
use weir_types::{NanoUsd, unit};

use crate::refusal::Refusal;

const COST: HeaderName = HeaderName::from_static("weir-cost-usd");
const MODEL: HeaderName = HeaderName::from_static("weir-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("weir-attempts");
const OVERHEAD: HeaderName = HeaderName::from_static("weir-overhead-ms");
/// The id of the caller's own key that a call went by.
const OWN_KEY: HeaderName = HeaderName::from_static("weir-own-key");
/// Of a request: `non-critical` goes to the route's cheaper model, if it has one.
pub(crate) const PRIORITY: &str = "weir-priority";
/// Of a request: what of the product it is for, as plans and limits know it.
pub(crate) const FEATURE: &str = "weir-feature";
/// Where a call stood when it began to wait for a provider without room.
pub(crate) const QUEUE_POSITION: HeaderName = HeaderName::from_static("weir-queue-position");
/// The load level, if it was not normal; and that it sent the call to a cheaper model than it asked for.
const LOAD: HeaderName = HeaderName::from_static("weir-load");
const DOWNGRADED: HeaderName = HeaderName::from_static("weir-downgraded");
const QUEUE_TIME: HeaderName = HeaderName::from_static("weir-queue-ms");

/// Of an answer: it is that of an earlier request with the same key. Stripe's name for it.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Of an answer: it was kept from an earlier request; it is that of the same request under way. Neither cost anything.
const CACHED: HeaderName = HeaderName::from_static("weir-cached");
const COALESCED: HeaderName = HeaderName::from_static("weir-coalesced");

/// The names of one kind's headers.
struct RateLimitNames {
    kind: &'static str,
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
    anthropic_limit: HeaderName,
    anthropic_remaining: HeaderName,
    anthropic_reset: HeaderName,
}

static RATE_LIMITS: [RateLimitNames; 2] = [
    RateLimitNames {
        kind: "requests",
        limit: HeaderName::from_static("x-ratelimit-limit-requests"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
        reset: HeaderName::from_static("x-ratelimit-reset-requests"),
        anthropic_limit: HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        anthropic_remaining: HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        anthropic_reset: HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    },
    RateLimitNames {
        kind: "tokens",
        limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
        reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
        anthropic_limit: HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        anthropic_remaining: HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        anthropic_reset: HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
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
        insert(headers, OVERHEAD, &millis(overhead));
    }
    if let Some((_, id)) = accounting.provider_key.rsplit_once('/') {
        insert(headers, OWN_KEY, id);
    }
    if accounting.queue_position > 0 {
        headers.insert(QUEUE_POSITION, HeaderValue::from(accounting.queue_position));
    }
    if let Some(time) = accounting.queue_time {
        insert(headers, QUEUE_TIME, &millis(time));
    }
    if !accounting.load_level.is_empty() {
        insert(headers, LOAD, &accounting.load_level);
    }
    if accounting.downgraded {
        headers.insert(DOWNGRADED, HeaderValue::from_static("true"));
    }
    if accounting.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    let free = [(accounting.cached, CACHED), (accounting.coalesced, COALESCED)];
    for (_, name) in free.into_iter().filter(|(is_so, _)| *is_so) {
        headers.insert(name, HeaderValue::from_static("true"));
        headers.insert(COST, HeaderValue::from_static("0"));
    }
}

/// Says what is left of the limits, in Anthropic's way.
pub(crate) fn anthropic_rate_limits(headers: &mut HeaderMap, limits: &[RateLimit], now: DateTime<Utc>) {
    for rate in limits {
        let Some(names) = RATE_LIMITS.iter().find(|names| names.kind == rate.kind) else { continue };
        headers.insert(names.anthropic_limit.clone(), HeaderValue::from(rate.limit));
        headers.insert(names.anthropic_remaining.clone(), HeaderValue::from(rate.remaining));
        let reset = rate.reset_after.and_then(|reset| Duration::try_from(reset).ok()).map(|reset| now + reset);
        if let Some(reset) = reset {
            insert(headers, names.anthropic_reset.clone(), &reset.to_rfc3339_opts(SecondsFormat::Secs, true));
        }
    }
}

/// Says what is left of the limits.
pub(crate) fn rate_limits(headers: &mut HeaderMap, limits: &[RateLimit]) {
    for rate in limits {
        let Some(names) = RATE_LIMITS.iter().find(|names| names.kind == rate.kind) else { continue };
        headers.insert(names.limit.clone(), HeaderValue::from(rate.limit));
        headers.insert(names.remaining.clone(), HeaderValue::from(rate.remaining));
        if let Some(reset) = rate.reset_after {
            insert(headers, names.reset.clone(), &span(reset));
        }
    }
}

/// The limits of requests and of tokens that refused a request; of several of a kind the one with the least left.
pub(crate) fn refusing(refusal: &Refusal) -> Vec<RateLimit> {
    let of_kind = |kind: &str, unit: &str| {
        let limits = refusal.violations().iter().map(|one| one.subject.as_str());
        let of_unit = limits.filter(|limit| refusal.figure(limit, "unit") == Some(unit));
        let state = |limit: &str| {
            let figure = |key| refusal.figure(limit, key)?.parse::<i64>().ok();
            let (cap, used) = (figure("cap")?, figure("used")?);
            let reset_after = figure("reset_ms").and_then(|millis| u64::try_from(millis).ok());
            Some(RateLimit {
                kind: kind.to_owned(),
                limit: cap,
                remaining: cap.saturating_sub(used).max(0),
                reset_after: reset_after.and_then(|millis| Duration::from_millis(millis).try_into().ok()),
            })
        };
        of_unit.filter_map(state).min_by_key(|limit| limit.remaining)
    };
    [of_kind("requests", unit::REQUEST), of_kind("tokens", unit::TOKEN)].into_iter().flatten().collect()
}

fn millis(span: prost_types::Duration) -> String {
    let micros = span.seconds * 1_000_000 + i64::from(span.nanos) / 1000;
    format!("{}.{:03}", micros / 1000, micros % 1000)
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
