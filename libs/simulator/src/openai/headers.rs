//! The headers that OpenAI's answers carry.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::ids::Id;
use crate::keys::{Headroom, Room};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");
const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

/// Sets what every answer carries.
pub(crate) fn set(headers: &mut HeaderMap, id: &Id, headroom: Option<&Headroom>, took: Duration) {
    headers.reserve(10);
    if let Some(id) = id.header("req_") {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    headers.insert(PROCESSING, HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    match headroom.and_then(|headroom| headroom.requests) {
        None => {
            headers.insert(LIMIT_REQUESTS, HeaderValue::from_static("10000"));
            headers.insert(REMAINING_REQUESTS, HeaderValue::from_static("9999"));
            headers.insert(RESET_REQUESTS, HeaderValue::from_static("6ms"));
        }
        Some(room) => insert(headers, [LIMIT_REQUESTS, REMAINING_REQUESTS, RESET_REQUESTS], room),
    }
    match headroom.and_then(|headroom| headroom.tokens) {
        None => {
            headers.insert(LIMIT_TOKENS, HeaderValue::from_static("30000000"));
            headers.insert(REMAINING_TOKENS, HeaderValue::from_static("29999000"));
            headers.insert(RESET_TOKENS, HeaderValue::from_static("2ms"));
        }
        Some(room) => insert(headers, [LIMIT_TOKENS, REMAINING_TOKENS, RESET_TOKENS], room),
    }
}

fn insert(headers: &mut HeaderMap, [limit, remaining, reset]: [HeaderName; 3], room: Room) {
    headers.insert(limit, HeaderValue::from(room.limit));
    headers.insert(remaining, HeaderValue::from(room.remaining));
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(span(room.reset))) {
        headers.insert(reset, value);
    }
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
}
