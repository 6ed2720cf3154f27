//! Internal details in the log: all of our defects, and of everything else what a reader can take in.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use weir_proto::common::v1::ErrorReason;

use super::Error;

/// Lines per second about things that are away or busy: while a store is down, every request would say the same.
const LINES_PER_SECOND: u64 = 20;

/// The second and the lines in it, in one word; and the lines that were left out since the last one.
static WINDOW: AtomicU64 = AtomicU64::new(0);
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Logs the internal detail, if there is one, under the id of the request that is being served.
pub(super) fn log(error: &Error) {
    let Some(detail) = &error.0.internal else { return };
    let request = crate::call::current_request_id();
    let request = request.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("");
    let reason = super::wire::reason_text(error.0.reason);
    if matches!(error.0.reason, ErrorReason::Internal | ErrorReason::Unspecified) {
        tracing::error!(request_id = request, reason, %detail, "{}", error.0.message);
    } else if admit(&WINDOW, START.elapsed().as_secs()) {
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        tracing::warn!(request_id = request, reason, %detail, left_out, "{}", error.0.message);
    } else {
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether there is room for one more line in this second.
fn admit(window: &AtomicU64, second: u64) -> bool {
    let counted = window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        let (of, lines) = (word >> 16, word & 0xFFFF);
        match (of == second, lines < LINES_PER_SECOND) {
            (true, true) => Some(word + 1),
            (true, false) => None,
            (false, _) => Some(second << 16 | 1),
        }
    });
    counted.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_some_lines_and_the_next_for_as_many() {
        let window = AtomicU64::new(0);
        for second in [5, 6, 900_000] {
            let admitted = (0..1000).filter(|_| admit(&window, second)).count();
            assert_eq!(admitted, 20, "in second {second}");
        }
    }
}
