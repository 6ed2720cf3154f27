//! What belongs to one request on its way through the services: its id and its deadline.
//!
//! Kept in a task-local, as `tracing` keeps the current span, so that no handler can forget to pass them on: a
//! [`Channel`](crate::Channel) puts both on every call that is made while a request is served. Work that outlives
//! its request (a spawned task) is outside, and has the channel's own deadline.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// The header (and gRPC metadata) of the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longer ids than this are replaced, so that callers can't fill logs.
const MAX_REQUEST_ID: usize = 128;

tokio::task_local! {
    static CURRENT: Call;
}

/// The request that is being served: its id, and when its answer is of no more use.
#[derive(Debug, Clone)]
pub struct Call {
    request_id: HeaderValue,
    deadline: Option<Instant>,
}

impl Call {
    /// A request with this id and deadline.
    #[must_use]
    pub fn new(request_id: HeaderValue, deadline: Option<Instant>) -> Self {
        Self { request_id, deadline }
    }

    /// The request that the current task serves.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// When the answer is of no more use.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Runs `future` as a part of this request.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Runs `f` as a part of this request.
    pub fn sync_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), f)
    }
}

pub(crate) fn with_current<R>(f: impl FnOnce(&Call) -> R) -> Option<R> {
    CURRENT.try_with(f).ok()
}

pub(crate) fn current_request_id() -> Option<HeaderValue> {
    with_current(|call| call.request_id.clone())
}

/// The request's id from its headers, or a new one (UUIDv7).
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(REQUEST_ID)
        && (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
    {
        return id.clone();
    }
    let mut text = uuid::Uuid::encode_buffer();
    let text = uuid::Uuid::now_v7().as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
pub(crate) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut n = 0u64;
    for digit in digits {
        n = n * 10 + u64::from(digit.checked_sub(b'0').filter(|d| *d <= 9)?);
    }
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit that fits eight digits, rounded down: the callee must not have more time
/// than is left.
pub(crate) fn format_timeout(left: Duration) -> HeaderValue {
    const LIMIT: u128 = 100_000_000;
    let micros = left.as_micros();
    let (mut n, unit) = if micros < LIMIT {
        (micros, b'u')
    } else if left.as_millis() < LIMIT {
        (left.as_millis(), b'm')
    } else {
        (u128::from(left.as_secs()).min(LIMIT - 1), b'S')
    };
    let mut text = [0u8; 9];
    let mut at = text.len() - 1;
    text[at] = unit;
    loop {
        at -= 1;
        text[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 || at == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).unwrap_or_else(|_| HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_reads_back_never_longer() {
        for left in [0, 1, 999, 50_000, 99_999_999, 100_000_000, 123_456_789_012] {
            let left = Duration::from_micros(left);
            let back = parse_timeout(&format_timeout(left)).expect("reads back");
            assert!(back <= left && left - back <= left / 100_000, "{left:?} {back:?}");
        }
        assert_eq!(format_timeout(Duration::from_micros(1500)), "1500u");
    }

    #[test]
    fn timeouts_that_the_protocol_does_not_know_are_ignored() {
        for text in ["", "5", "S", "123456789S", "-1S", "5x", "1.5S"] {
            assert_eq!(parse_timeout(&HeaderValue::from_static(text)), None, "{text}");
        }
        assert_eq!(parse_timeout(&HeaderValue::from_static("2M")), Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_request_id_that_would_spoil_a_log_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("req-1"));
        assert_eq!(request_id(&headers), "req-1");
        headers.insert(REQUEST_ID, HeaderValue::from_static("two words"));
        assert_eq!(request_id(&headers).len(), 36);
    }
}
