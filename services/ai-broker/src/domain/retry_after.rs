//! When a provider wants to be asked again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

/// Nobody waits longer than this for a header's word.
const LONGEST: Duration = Duration::from_secs(3600);

/// Reads `retry-after-ms` (OpenAI, Azure), else `retry-after` in seconds or as a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|value| seconds(value, 1e-3));
    let stated = milliseconds.or_else(|| {
        let value = text("retry-after")?;
        seconds(value, 1.0).or_else(|| (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok())
    })?;
    Some(stated.min(LONGEST))
}

fn seconds(value: &str, scale: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse::<f64>().ok()? * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().expect("a header"))]);
        retry_after(&headers, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(read("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(read("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "Thu, 01 Jan 1970 00:00:30 GMT"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn nonsense_is_ignored_and_ages_are_cut_short() {
        assert_eq!(read("retry-after", "soon"), None);
        assert_eq!(read("retry-after", "-4"), None);
        assert_eq!(read("retry-after", "1e300"), None);
        assert_eq!(read("retry-after", "999999"), Some(LONGEST));
    }
}
