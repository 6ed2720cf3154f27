//! Content types, and the headers of every answer in each provider's manner.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::dialect::Dialect;
use crate::ids::Id;
use crate::keys::Headroom;
use crate::{anthropic, elevenlabs, fal, openai};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
pub(crate) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");
pub(crate) const PNG: HeaderValue = HeaderValue::from_static("image/png");

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Sets what every answer of a provider carries.
pub(crate) fn set(
    headers: &mut HeaderMap,
    dialect: Dialect,
    content_type: HeaderValue,
    id: &Id,
    headroom: Option<&Headroom>,
    took: Duration,
) {
    headers.insert(CONTENT_TYPE, content_type);
    match dialect {
        Dialect::OpenAi => openai::headers::set(headers, id, headroom, took),
        Dialect::Anthropic => anthropic::headers::set(headers, id, headroom),
        Dialect::ElevenLabs => elevenlabs::set_headers(headers, id, headroom),
        Dialect::Fal => fal::set_headers(headers, id),
    }
}

/// Says when to try again: whole seconds, rounded up, and at OpenAI the exact milliseconds too.
pub(crate) fn set_retry_after(headers: &mut HeaderMap, dialect: Dialect, after: Duration) {
    let millis = u64::try_from(after.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    if dialect == Dialect::OpenAi {
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
    }
}
