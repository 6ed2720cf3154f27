//! The headers that Anthropic's answers carry.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::ids::Id;
use crate::keys::{Headroom, Room};

const NAMES: [[&str; 3]; 4] = [
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
    [
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ],
    [
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ],
];

/// What a generous key has where nothing is limited.
const GENEROUS: [u64; 4] = [50_000, 2_400_000, 2_000_000, 400_000];

/// Sets what every answer carries; the rate limits only on answers to an admitted request.
pub(crate) fn set(headers: &mut HeaderMap, id: &Id, headroom: Option<&Headroom>) {
    headers.reserve(14);
    if let Some(id) = id.header("req_") {
        headers.insert("request-id", id);
    }
    headers.insert("anthropic-organization-id", HeaderValue::from_static("00000000-0000-4000-8000-000000000000"));
    let Some(headroom) = headroom else { return };
    let rooms = [headroom.requests, headroom.tokens, headroom.input, headroom.output];
    for ((names, room), generous) in NAMES.into_iter().zip(rooms).zip(GENEROUS) {
        let room = room.unwrap_or(Room { limit: generous, remaining: generous, reset: Duration::ZERO });
        let [limit, remaining, reset] = names.map(HeaderName::from_static);
        headers.insert(limit, HeaderValue::from(room.limit));
        headers.insert(remaining, HeaderValue::from(room.remaining));
        if let Ok(at) = HeaderValue::try_from(instant(SystemTime::now() + room.reset)) {
            headers.insert(reset, at);
        }
    }
}

/// A moment as RFC 3339 has it, in whole seconds.
fn instant(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}
