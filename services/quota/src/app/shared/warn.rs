//! Soft alerts of limits across tenants: what accounts answer, and what they refuse, says which percentages are reached.
//!
//! They stand under nobody's organisation, for those who operate the product. Every process sees what an account answers; Postgres
//! lets each alert fire once.

use super::seats::Seats;
use super::{Account, Asks, Shared};
use crate::app::alerts::Across;
use crate::domain::PlanLimit;
use crate::domain::period::FOREVER;

impl Shared {
    /// An account has said how it stands, or it refuses what it would admit if it were unused.
    pub(super) fn warn(&self, account: &Account, refused: bool) {
        let known = account.known();
        let limit = &known.limit;
        if !warns(limit) {
            return;
        }
        let slice = account.slice.lock();
        // What this process has not said yet comes with its next message, and may be in what another one has said already.
        let Some(Ok(answer)) = slice.last() else { return };
        let seen = Across {
            limit,
            whose: &account.key.value,
            period: slice.origin().period,
            used: answer.certain,
            held: answer.held,
            refused,
            at: answer.now,
        };
        self.alerts.across(&seen);
    }

    /// The same of seats.
    pub(super) fn warn_of_seats(&self, seats: &Seats, refused: bool) {
        let known = seats.known();
        let limit = &known.limit;
        if warns(limit) {
            let (whose, live, at) = (&*seats.key.value, seats.live(), self.now());
            self.alerts.across(&Across { limit, whose, period: FOREVER, used: live, held: live, refused, at });
        }
    }

    /// These refuse, by their place among what was asked.
    pub(super) fn warn_refused(&self, asks: &Asks, short: &[usize]) {
        for place in short {
            if let Some(ask) = asks.windows.get(*place) {
                self.warn(&ask.account, ask.amount <= ask.account.known().limit.limit.cap);
            } else if let Some(seats) = asks.seats.get(place - asks.windows.len()) {
                self.warn_of_seats(seats, true);
            }
        }
    }
}

/// Most have no percentages.
const fn warns(limit: &PlanLimit) -> bool {
    limit.alarm.from < i64::MAX
}
