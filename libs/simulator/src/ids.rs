//! Ids of requests and of what answers are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HeaderValue;

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

    /// The id with a prefix, as a header's value.
    pub(crate) fn header(&self, prefix: &str) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(Bytes::from([prefix.as_bytes(), &self.digits[..]].concat())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let ids = Ids::new();
        assert_ne!(ids.next().as_str(), ids.next().as_str());
    }
}
