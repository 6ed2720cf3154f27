//! What this process holds of one account: its slice, and what it has not said yet. No store and no await: what requests take is
//! taken under a lock that is never held across one.

mod pace;
mod rounds;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use weir_types::ReservationId;

use crate::domain::period::FOREVER;
use crate::domain::shared::{Answer, Ended, HolderId, Measure};
use crate::domain::{Millis, Period};
use crate::error::Result;
use pace::Pace;

/// This process's part of an account.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Where the slice is from.
    origin: Origin,
    unspent: i64,
    /// Taken by requests that are not decided yet.
    taken: i64,
    /// Until when the account surely keeps the slice.
    good_until: Option<Instant>,
    /// The store's clock at a moment.
    clock: Option<(Millis, Instant)>,
    uses: VecDeque<GivenOut>,
    ended: VecDeque<(Ended, oneshot::Sender<Result<()>>)>,
    /// What requests wait for: how many for each amount.
    waiting: BTreeMap<i64, usize>,
    /// Somebody wants to know how the account stands.
    asked: bool,
    seq: i64,
    /// Rounds that were begun and those that are over.
    pub(super) begun: u64,
    pub(super) over: u64,
    /// What the last round came to.
    last: Option<Result<Answer>>,
    pace: Pace,
    calm_until: Option<Instant>,
    /// When the last answer came.
    landed: Option<Instant>,
    closed: bool,
}

/// The generation and the period that a slice was granted in: in others it is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) generation: u64,
    pub(super) period: Period,
    /// Counts up when the account has let go of what was kept: its lease was over.
    term: u64,
}

impl Default for Origin {
    fn default() -> Self {
        Self { generation: 0, period: FOREVER, term: 0 }
    }
}

/// A reservation that was made.
#[derive(Debug, Clone, Copy)]
struct GivenOut {
    id: ReservationId,
    amount: i64,
    place: Millis,
    /// When, by this process's clock, or none if it is announced again.
    at: Option<Instant>,
    /// In which generation it was given out.
    generation: u64,
    holder: HolderId,
    reserved_at: Millis,
}

/// Whether waiting may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What is missing may come back in a moment: from requests that are not decided yet, or from other processes (`true`: these).
    Maybe(bool),
    /// It does not fit.
    Never,
}

impl Slice {
    /// Nothing yet; its messages have greater numbers than those of an earlier one of the same process.
    pub(super) fn new(seq: i64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// Takes from the slice what [`would_take`](Self::would_take) has said is there.
    pub(super) const fn take(&mut self, amount: i64) {
        self.unspent -= amount;
        self.taken += amount;
    }

    /// Whether it could be taken now.
    pub(super) fn would_take(&self, amount: i64, generation: u64, now: Instant) -> bool {
        let good = self.good_until.is_some_and(|until| now < until);
        !self.closed && good && self.is_of(generation, now) && self.unspent >= amount
    }

    /// Whether it is of this generation, and of the period that is under way.
    pub(super) fn is_of(&self, generation: u64, now: Instant) -> bool {
        self.origin.generation == generation && self.store_time(now) < self.origin.period.end
    }

    pub(super) const fn origin(&self) -> Origin {
        self.origin
    }

    /// What was taken was given out.
    pub(super) fn confirm(&mut self, id: ReservationId, amount: i64, origin: Origin, holder: HolderId, at: Millis) {
        self.resolve(amount, origin);
        self.pace.used = self.pace.used.saturating_add(amount);
        let place = if origin.period == FOREVER { 0 } else { origin.period.start };
        let (at, generation, reserved_at) = (Some(Instant::now()), origin.generation, at);
        self.uses.push_back(GivenOut { id, amount, place, at, generation, holder, reserved_at });
    }

    /// What was taken was not needed.
    pub(super) fn give_back(&mut self, amount: i64, origin: Origin) {
        if self.resolve(amount, origin) {
            self.unspent += amount;
        }
    }

    fn resolve(&mut self, amount: i64, origin: Origin) -> bool {
        let ours = origin == self.origin;
        if ours {
            self.taken -= amount;
        }
        ours
    }

    /// A reservation counts again, of this or another process.
    pub(super) fn announce(&mut self, id: ReservationId, amount: i64, place: Millis, holder: HolderId, at: Millis) {
        // Before what was given out here: somebody waits for it.
        self.uses.push_front(GivenOut { id, amount, place, at: None, generation: 0, holder, reserved_at: at });
    }

    /// Whether a reservation is still to be announced.
    pub(super) fn is_unannounced(&self, id: &ReservationId) -> bool {
        self.uses.iter().any(|one| one.at.is_none() && one.id == *id)
    }

    /// Whether any is.
    pub(super) fn has_announcements(&self) -> bool {
        self.uses.iter().any(|one| one.at.is_none())
    }

    /// A reservation ended; the answer comes when the account knows.
    pub(super) fn end(&mut self, ended: Ended) -> oneshot::Receiver<Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.ended.push_back((ended, sender));
        receiver
    }

    /// A request waits for `amount`; answers which round will know of it.
    pub(super) fn wait(&mut self, amount: i64) -> u64 {
        *self.waiting.entry(amount).or_default() += 1;
        self.begun + 1
    }

    pub(super) fn stop_waiting(&mut self, amount: i64) {
        if let Some(count) = self.waiting.get_mut(&amount) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&amount);
            }
        }
    }

    /// Whether requests wait.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Asks for a round; answers which one it will be.
    pub(super) const fn ask(&mut self) -> u64 {
        self.asked = true;
        self.begun + 1
    }

    /// Asks for a round because something elsewhere may have come back; not too often.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        const LEAST: Duration = Duration::from_millis(5);
        let due = self.landed.is_none_or(|landed| now.saturating_duration_since(landed) >= LEAST);
        self.asked |= due;
        due
    }

    /// Whether a round is due now, without regard to the time since the last one.
    pub(super) fn is_urgent(&self) -> bool {
        self.asked || !self.ended.is_empty()
    }

    /// Whether there is anything to say or to keep alive.
    pub(super) fn is_active(&self) -> bool {
        self.is_unsaid() || self.is_awaited() || self.taken > 0
    }

    /// Whether there is anything to say or to return.
    pub(super) fn is_unsaid(&self) -> bool {
        self.is_urgent() || !self.uses.is_empty() || self.unspent > 0
    }

    /// Whether stock is so low that more should be drawn before somebody has to wait for it.
    pub(super) const fn is_low(&self) -> bool {
        self.unspent < self.pace.ahead / 2
    }

    /// Nothing is taken any more.
    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the store's clock says, as far as is known.
    pub(super) fn store_time(&self, now: Instant) -> Millis {
        self.clock.map_or(0, |(then, at)| then.saturating_add(millis(now.saturating_duration_since(at))))
    }

    pub(super) const fn knows_time(&self) -> bool {
        self.clock.is_some()
    }

    /// The store's clock was seen to be there.
    pub(super) const fn set_time(&mut self, time: Millis, now: Instant) {
        self.clock = Some((time, now));
    }

    /// The last answer; the error if there is none.
    pub(super) fn last(&self) -> Option<&Result<Answer>> {
        self.last.as_ref()
    }

    /// Whether waiting may help a request for `amount`, by the last answer.
    pub(super) fn verdict(&self, amount: i64, cap: i64) -> Verdict {
        let Some(Ok(answer)) = &self.last else { return Verdict::Never };
        let own = self.unspent.saturating_add(self.taken);
        let possible = answer.free.max(0).saturating_add(answer.others).saturating_add(own);
        if amount > cap || amount > possible { Verdict::Never } else { Verdict::Maybe(answer.others > 0) }
    }

    /// What was given out and not said yet.
    pub(super) fn unsaid(&self) -> i64 {
        self.uses.iter().filter(|one| one.at.is_some()).map(|one| one.amount).sum()
    }

    /// What the slice has beside that: unspent, and taken by requests that are not decided yet.
    pub(super) const fn kept(&self) -> (i64, i64) {
        (self.unspent, self.taken)
    }
}

/// How an account counts, at an instant.
pub(super) fn measure(limit: &crate::domain::PlanLimit, period: Period) -> Measure {
    match limit.rolling() {
        Some(length) => Measure::Rolling { length, grain: limit.grain },
        None => Measure::Period(period),
    }
}

fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests;
