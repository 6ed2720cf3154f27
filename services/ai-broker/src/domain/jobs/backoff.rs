//! How long to wait before the next try.

use std::time::Duration;

const MOST: Duration = Duration::from_secs(3600);

/// Before the try after `tries` that failed: doubles with each, up to an hour, less up to half of it so that those that failed
/// together do not come back together. `jitter` is from 0 to 255.
pub(crate) fn backoff(base: Duration, tries: u16, jitter: u8) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(u32::from(tries.max(1) - 1)).unwrap_or(u32::MAX)).min(MOST);
    doubled - doubled / 2 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_are_spread() {
        let base = Duration::from_secs(2);
        let seconds = |tries, jitter| backoff(base, tries, jitter).as_secs();
        assert_eq!([1, 2, 3, 12, 40].map(|tries| seconds(tries, 0)), [2, 4, 8, 3600, 3600]);
        assert_eq!([0, 255].map(|jitter| seconds(3, jitter)), [8, 4]);
        assert_eq!(backoff(Duration::ZERO, 5, 9), Duration::ZERO);
    }
}
