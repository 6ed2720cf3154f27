//! How much is kept in stock.

use tokio::time::Instant;

use super::millis;
use crate::domain::Millis;

/// How fast the slice is used.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    pub(super) used: i64,
    /// For one report's time.
    pub(super) ahead: i64,
}

impl Pace {
    /// Twice of what is used between two reports is kept in stock; what is not used any more goes back by halves.
    pub(super) fn step(&mut self, now: Instant, lease: Millis) {
        const REPORT: i64 = 50;
        let Some(since) = self.since else {
            self.since = Some(now);
            return;
        };
        let passed = millis(now.saturating_duration_since(since));
        if passed < REPORT.min(lease / 8).max(1) {
            return;
        }
        let recent = self.used.saturating_mul(2 * REPORT) / passed;
        self.ahead = recent.max(self.ahead / 2);
        (self.since, self.used) = (Some(now), 0);
    }
}
