//! How much room a key has: by its own limits, and by what the provider says in its answers.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http::HeaderMap;

use crate::domain::retry_after::reset_after;

const MINUTE: Duration = Duration::from_secs(60);
/// How long the provider's word is believed when it does not say when it is out of date.
const BELIEVED: Duration = Duration::from_secs(10);

/// The limits of one key; what is unset is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OwnLimits {
    pub(crate) requests_per_minute: Option<i64>,
    pub(crate) tokens_per_minute: Option<i64>,
    pub(crate) concurrency: Option<i64>,
}

/// What this broker has sent with a key in about the last minute: this minute and the part of the last one that is still in the
/// window. It only orders keys; quota decides, exactly and for all brokers.
#[derive(Debug, Default)]
pub(super) struct Window {
    began: Option<Instant>,
    now: Sent,
    before: Sent,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    requests: i64,
    tokens: i64,
}

impl Window {
    pub(super) fn take(&mut self, tokens: i64, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= MINUTE {
            self.before = if age < 2 * MINUTE { self.now } else { Sent::default() };
            self.now = Sent::default();
            self.began = Some(now);
        }
        self.now.requests += 1;
        self.now.tokens = self.now.tokens.saturating_add(tokens);
    }

    /// Thousandths of the limits that are left.
    pub(super) fn left(&self, limits: &OwnLimits, in_flight: u32, now: Instant) -> u16 {
        let age = self.began.map_or(2 * MINUTE, |began| now.saturating_duration_since(began));
        let faded = i64::try_from(MINUTE.saturating_sub(age).as_millis()).unwrap_or(0);
        let current = age < MINUTE;
        let sent = |of: fn(&Sent) -> i64| {
            let now = if current { of(&self.now) } else { 0 };
            now.saturating_add(of(&self.before).saturating_mul(faded) / 60_000)
        };
        let left = |limit: Option<i64>, used: i64| match limit {
            Some(limit) if limit > 0 => (limit - used).max(0).saturating_mul(1000) / limit,
            Some(_) => 0,
            None => 1000,
        };
        let left = left(limits.requests_per_minute, sent(|sent| sent.requests))
            .min(left(limits.tokens_per_minute, sent(|sent| sent.tokens)))
            .min(left(limits.concurrency, i64::from(in_flight)));
        u16::try_from(left).unwrap_or(1000)
    }
}

/// Limits by their headers: what is left of how much, and when all of it is.
const HEADERS: [(&str, &str, &str); 6] = [
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    (
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    ("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    (
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

/// What an answer says is left of the limit that is closest, in thousandths, and for how long that is worth knowing.
pub(crate) fn room_in(headers: &HeaderMap, now: DateTime<Utc>) -> Option<(u16, Duration)> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let left = |&(limit, remaining, reset): &(&str, &str, &str)| {
        let remaining = number(remaining)?.max(0);
        let limit = number(limit).filter(|limit| *limit > 0)?;
        let left = u16::try_from(remaining.min(limit).saturating_mul(1000) / limit).unwrap_or(1000);
        let reset = headers.get(reset).and_then(|value| reset_after(value.to_str().ok()?, now));
        Some((left, reset.unwrap_or(BELIEVED).min(MINUTE)))
    };
    HEADERS.iter().filter_map(left).min_by_key(|(left, _)| *left)
}
