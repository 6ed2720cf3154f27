//! The headers that OpenAI's answers carry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::keys::Headroom;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
pub(crate) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(crate) const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");
const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Ids that differ between requests and between runs.
#[derive(Debug)]
pub(crate) struct Ids {
    run: u64,
    next: AtomicU64,
}

/// The id of one request, in hexadecimal.
pub(crate) struct Id {
    digits: [u8; 32],
}

impl Ids {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run =
            since.as_secs().rotate_left(32) ^ u64::from(since.subsec_nanos()) ^ (u64::from(std::process::id()) << 8);
        Self { run, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> Id {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let mut digits = [0; 32];
        for (place, byte) in self.run.to_be_bytes().iter().chain(&next.to_be_bytes()).enumerate() {
            digits[place * 2] = b"0123456789abcdef"[usize::from(byte >> 4)];
            digits[place * 2 + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Id { digits }
    }
}

impl Id {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or_default()
    }

    fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(Bytes::from([b"req_", &self.digits[..]].concat())).ok()
    }
}

/// Sets what every answer carries.
pub(crate) fn set(
    headers: &mut HeaderMap,
    content_type: HeaderValue,
    id: &Id,
    headroom: Option<Headroom>,
    took: Duration,
) {
    headers.reserve(12);
    headers.insert(CONTENT_TYPE, content_type);
    if let Some(id) = id.header() {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    headers.insert(PROCESSING, HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    match headroom {
        None => {
            headers.insert(LIMIT_REQUESTS, HeaderValue::from_static("10000"));
            headers.insert(REMAINING_REQUESTS, HeaderValue::from_static("9999"));
            headers.insert(RESET_REQUESTS, HeaderValue::from_static("6ms"));
        }
        Some(headroom) => {
            headers.insert(LIMIT_REQUESTS, HeaderValue::from(headroom.limit));
            headers.insert(REMAINING_REQUESTS, HeaderValue::from(headroom.remaining));
            if let Ok(reset) = HeaderValue::from_maybe_shared(Bytes::from(span(headroom.reset))) {
                headers.insert(RESET_REQUESTS, reset);
            }
        }
    }
    headers.insert(LIMIT_TOKENS, HeaderValue::from_static("30000000"));
    headers.insert(REMAINING_TOKENS, HeaderValue::from_static("29999000"));
    headers.insert(RESET_TOKENS, HeaderValue::from_static("2ms"));
}

/// Says when to try again: whole seconds, rounded up, and the exact milliseconds.
pub(crate) fn set_retry_after(headers: &mut HeaderMap, after: Duration) {
    let millis = u64::try_from(after.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
}

/// A span of time as OpenAI writes it: `120ms`, `1.5s`, `6m0s`.
fn span(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match (seconds, millis) {
        (0, millis) => format!("{millis}ms"),
        (seconds, _) if seconds >= 60 => format!("{}m{}s", seconds / 60, seconds % 60),
        (seconds, 0) => format!("{seconds}s"),
        (seconds, millis) => format!("{seconds}.{millis:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_the_real_ones() {
        for (millis, text) in [(0, "0ms"), (120, "120ms"), (1_000, "1s"), (1_500, "1.500s"), (360_000, "6m0s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn ids_differ() {
        let ids = Ids::new();
        assert_ne!(ids.next().as_str(), ids.next().as_str());
    }
}
