//! Instants and spans as people read them at night: UTC, to the second, with how long ago that was.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::{Duration as ProtoDuration, Timestamp};
use weir_quota::words::Span;

pub(super) fn instant(time: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let time = time?;
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

/// `2026-11-22 03:12:09 UTC`.
pub(super) fn full(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of day if that was today, else the date, too.
pub(super) fn short(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let format = if time.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.format(format).to_string()
}

/// `12 s ago`; `just now` below a second.
pub(super) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (now - time).to_std() {
        Ok(span) if span >= Duration::from_secs(1) => format!("{} ago", Span(span)),
        _ => "just now".to_owned(),
    }
}

/// A span that is not negative.
pub(super) fn span(span: Option<ProtoDuration>) -> Option<Duration> {
    Duration::try_from(span?).ok()
}

/// Between two instants, to the millisecond where it is short: `850 ms`, `1.2 s`, `3 min`.
pub(super) fn took(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let span = (to - from).to_std().unwrap_or_default();
    match span.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{:.1} s", span.as_secs_f64()),
        _ => Span(span).to_string(),
    }
}
