//! What callers are told about limits across tenants.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::slice::Slice;
use super::{Ask, Asks, Shared};
use crate::domain::demand::bucket_end;
use crate::domain::period::FOREVER;
use crate::domain::{Entry, LimitState, Touch};
use crate::error::Result;

/// How a limit across tenants is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum SharedState {
    /// After a reservation.
    Admitted,
    /// Beside limits that refuse, or because it refuses itself: these, by their place among what was asked.
    Refused,
    /// To somebody who asks whether it would fit.
    Asked,
}

/// What other processes hold is tried again after so long.
const ELSEWHERE: Duration = Duration::from_secs(1);

impl Shared {
    /// The state of everything that was asked for, windows before seats.
    pub(in crate::app) fn states(&self, asks: &Asks, state: SharedState, refused: &[usize]) -> Vec<LimitState> {
        let windows = asks.windows.iter().enumerate().map(|(place, ask)| window(ask, state, refused.contains(&place)));
        let seats = asks.seats.iter().enumerate().map(|(place, seats)| {
            let known = seats.known();
            let limit = &known.limit;
            let live = seats.live();
            let mut this = LimitState::new(limit, live, live, 1);
            let refuses = refused.contains(&(asks.windows.len() + place));
            this.refuses = refuses || (state == SharedState::Asked && live >= this.cap);
            this.retry_after = (this.refuses && this.cap > 0).then_some(ELSEWHERE);
            this
        });
        windows.chain(seats).collect()
    }

    /// Looks at everything anew; then [`states`](Self::states) is as of now.
    pub(in crate::app) async fn read(&self, asks: &Asks) -> Result<()> {
        try_join_all(asks.windows.iter().map(|ask| self.refresh(&ask.account))).await?;
        try_join_all(asks.seats.iter().map(|seats| self.read_seats(seats))).await?;
        Ok(())
    }
}

fn window(ask: &Ask, state: SharedState, refused: bool) -> LimitState {
    let known = ask.account.known();
    let limit = &known.limit;
    let slice = ask.account.slice.lock();
    let now = slice.store_time(Instant::now());
    let period = if limit.rolling().is_some() { FOREVER } else { slice.origin().period };
    let touch = Touch { amount: ask.amount, period };
    let Some(Ok(answer)) = slice.last() else {
        // Nobody has asked the account yet: what was given out is all that is known.
        return LimitState { refuses: refused, ..LimitState::new(limit, slice.unsaid(), slice.unsaid(), ask.amount) };
    };
    let (said, held) = (answer.used, answer.held);
    let unsaid = slice.unsaid();
    let hidden = hidden(&slice, state, refused, limit.limit.cap, said + unsaid, ask.amount);
    let mut queue = limit.rolling().map(|length| {
        let mut queue = answer.buckets.clone();
        let newest = bucket_end(now, limit.grain);
        let lost = answer.lost.min(hidden);
        // What is in slices is free again when they come back; what is lost, when its time is over.
        queue.push((answer.lost_until - length, lost));
        queue.push((now - length + 1 + i64::try_from(ELSEWHERE.as_millis()).unwrap_or(0), hidden - lost));
        queue.push((newest, unsaid));
        queue.retain(|(_, amount)| *amount > 0);
        queue.sort_unstable();
        queue
    });
    let spent = if queue.is_some() { 0 } else { said - held };
    let held = held + unsaid + hidden;
    let entry = Entry { limit: limit.id, period: period.start.max(0), spent, held, version: 0, queue: queue.take() };
    let mut this = LimitState::window(limit, touch, Some(&entry), 0, 0, now);
    match state {
        SharedState::Admitted => (this.refuses, this.retry_after) = (false, None),
        SharedState::Refused => {
            this.refuses = refused;
            if !refused {
                this.retry_after = None;
            } else if this.retry_after.is_none() && ask.amount <= this.cap {
                this.retry_after = Some(ELSEWHERE);
            } else if limit.rolling().is_none() && said.saturating_add(unsaid) <= this.cap - ask.amount {
                // It is not used up, and what others hold comes back before the period ends. Money that is elsewhere is not spent.
                (this.retry_after, this.money) = (Some(ELSEWHERE), false);
            }
        }
        SharedState::Asked => {}
    }
    this
}

/// What counts as used because it can't be had: slices of processes that say nothing any more, and on a refusal also what others
/// did not return in time.
fn hidden(slice: &Slice, state: SharedState, refused: bool, cap: i64, known: i64, amount: i64) -> i64 {
    let Some(Ok(answer)) = slice.last() else { return 0 };
    let (unspent, taken) = slice.kept();
    match state {
        SharedState::Admitted => 0,
        SharedState::Refused if !refused => 0,
        SharedState::Asked => answer.lost,
        SharedState::Refused => {
            let fits = answer.free.max(0) + answer.others + unspent + taken;
            let left = if amount > fits { fits } else { amount.min(answer.free.max(0) + unspent) };
            // Never so little that it would seem to fit.
            let left = left.min(amount - 1).max(0);
            (cap - left - known).max(0)
        }
    }
}
