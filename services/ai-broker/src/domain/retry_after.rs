//! When a provider wants to be asked again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

/// Nobody waits longer than this for a header's word.
const LONGEST: Duration = Duration::from_secs(3600);
/// A number of seconds from here on is a moment, not a span: 1973 as seconds since 1970, which is also 31 years.
const MOMENT: f64 = 1e8;

/// Limits by their headers: what is left of them, and when there is more.
const RESETS: [(&str, &str); 8] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
];

/// Reads `retry-after-ms` (OpenAI), `x-ms-retry-after-ms` (Azure), else `retry-after` in seconds or as a date (RFC 9110, section
/// 10.2.3), else when the limits that are used up are there again: `x-ratelimit-reset*`, `anthropic-ratelimit-*-reset`.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds =
        ["retry-after-ms", "x-ms-retry-after-ms"].iter().find_map(|name| seconds(text(name)?.parse().ok()?, 1e-3));
    let stated = milliseconds.or_else(|| reset_after(text("retry-after")?, now));
    let stated = stated.or_else(|| {
        let resets = || RESETS.iter().filter_map(|(left, reset)| Some((*left, reset_after(text(reset)?, now)?)));
        let is_used_up = |left: &str| text(left).is_some_and(|left| left.parse::<f64>().is_ok_and(|left| left <= 0.0));
        let used_up = resets().filter(|(left, _)| is_used_up(left)).map(|(_, reset)| reset).max();
        // Without a limit that says it is used up, the first one that gets any better.
        used_up.or_else(|| resets().map(|(_, reset)| reset).filter(|reset| !reset.is_zero()).min())
    })?;
    Some(stated.min(LONGEST))
}

/// A span or a moment as providers write them: seconds (`1`, `0.25`), `6m0s`, `88ms`, seconds or milliseconds since 1970, a date
/// of HTTP, a date of RFC 3339. Moments that have passed are zero.
pub(crate) fn reset_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let until = |moment: DateTime<Utc>| (moment - now).to_std().unwrap_or_default();
    if let Ok(number) = value.parse::<f64>() {
        return match number {
            span if span < MOMENT => seconds(span, 1.0),
            moment => {
                let moment = seconds(moment, if moment < MOMENT * 1000.0 { 1.0 } else { 1e-3 })?;
                let moment = DateTime::from_timestamp_millis(i64::try_from(moment.as_millis()).ok()?)?;
                Some(until(moment))
            }
        };
    }
    let date = DateTime::parse_from_rfc2822(value).or_else(|_| DateTime::parse_from_rfc3339(value));
    date.map_or_else(|_| spelt_out(value), |date| Some(until(date.to_utc())))
}

/// `1h2m3.5s`, `6m0s`, `88ms`: as Go writes durations.
fn spelt_out(value: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (value, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let scale = match &tail[..letters] {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(seconds(number.parse().ok()?, scale)?)?;
        rest = &tail[letters..];
    }
    (!value.is_empty()).then_some(sum)
}

fn seconds(value: f64, scale: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a header")))
            .collect();
        retry_after(&headers, DateTime::from_timestamp(1_800_000_000, 0).expect("a moment"))
    }

    fn read(name: &'static str, value: &str) -> Option<Duration> {
        read_all(&[(name, value)])
    }

    #[test]
    fn every_form_of_retry_after_is_understood() {
        assert_eq!(read("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(read("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(read("x-ms-retry-after-ms", "88"), Some(Duration::from_millis(88)));
        assert_eq!(read("retry-after", "Fri, 15 Jan 2027 08:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("retry-after", "Fri, 15 Jan 2027 07:00:30 GMT"), Some(Duration::ZERO), "it has passed");
        let both = [("retry-after", "9"), ("retry-after-ms", "8400")];
        assert_eq!(read_all(&both), Some(Duration::from_millis(8400)), "the finer one");
    }

    #[test]
    fn every_form_of_reset_is_understood() {
        for (value, millis) in [
            ("1s", 1000),
            ("6m0s", 360_000),
            ("88ms", 88),
            ("1h2m3s", 3_600_000_u64),
            ("7.66s", 7660),
            ("500us", 0),
            ("12", 12_000),
            ("0.5", 500),
            ("1800000030", 30_000),
            ("1800000030250", 30_250),
            ("2027-01-15T08:00:30Z", 30_000),
            ("2027-01-15T09:00:30+01:00", 30_000),
            ("Fri, 15 Jan 2027 08:00:30 GMT", 30_000),
        ] {
            let read = read("x-ratelimit-reset-requests", value).map(|span| span.as_millis());
            assert_eq!(read, Some(u128::from(millis)), "{value}");
        }
        for name in [
            "x-ratelimit-reset",
            "x-ratelimit-reset-tokens",
            "anthropic-ratelimit-requests-reset",
            "anthropic-ratelimit-tokens-reset",
            "anthropic-ratelimit-input-tokens-reset",
            "anthropic-ratelimit-output-tokens-reset",
        ] {
            assert_eq!(read(name, "2027-01-15T08:00:07Z"), Some(Duration::from_secs(7)), "{name}");
        }
    }

    #[test]
    fn the_limit_that_is_used_up_says_when() {
        let headers = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-reset-tokens", "88ms"),
        ];
        assert_eq!(read_all(&headers), Some(Duration::from_secs(360)));
        let stated = [&headers[..], &[("retry-after", "20")]].concat();
        assert_eq!(read_all(&stated), Some(Duration::from_secs(20)), "the provider's own word goes first");
        let neither = [("x-ratelimit-reset-requests", "6m0s"), ("x-ratelimit-reset-tokens", "88ms")];
        assert_eq!(read_all(&neither), Some(Duration::from_millis(88)));
    }

    #[test]
    fn nonsense_is_ignored_and_ages_are_cut_short() {
        for nonsense in ["soon", "-4", "1e300", "", "s", "5x", "1.2.3s", "NaN"] {
            assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
        }
        assert_eq!(read("retry-after", "999999"), Some(LONGEST));
    }
}
