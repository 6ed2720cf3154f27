//! What a process says to an account, and what it makes of the answer.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{GivenOut, Origin, Slice, millis};
use crate::domain::Period;
use crate::domain::shared::{Answer, Ended, HolderId, Round, Terms, Use};
use crate::error::{Error, Result};

/// The most reservations of each kind in one message.
const BATCH: usize = 500;
/// For how long nothing is kept in stock after others have asked for it.
const CALM: Duration = Duration::from_secs(1);

/// A message on its way.
#[derive(Debug)]
pub(in crate::app::shared) struct Flight {
    pub(in crate::app::shared) round: Round,
    pub(in crate::app::shared) number: u64,
    sent: Instant,
    keep: i64,
    uses: Vec<GivenOut>,
    ended: Vec<(Ended, oneshot::Sender<Result<()>>)>,
}

impl Slice {
    /// What to say next.
    pub(in crate::app::shared) fn compose(
        &mut self,
        (generation, period): (u64, Period),
        terms: Terms,
        holder: HolderId,
        now: Instant,
    ) -> Flight {
        let origin = Origin { generation, period, ..self.origin };
        if origin != self.origin {
            // What is not decided yet of another origin ends there.
            (self.unspent, self.taken, self.good_until, self.origin) = (0, 0, None, origin);
        }
        if self.good_until.is_some_and(|until| now >= until) {
            self.unspent = 0;
        }
        if terms.durable {
            // What is held from an earlier generation is announced; what was settled is in the totals that were loaded.
            self.uses.retain(|one| one.at.is_none() || one.generation == generation);
        }
        let calm = self.calm_until.is_some_and(|until| now < until);
        self.pace.step(now, terms.lease);
        let ahead = if calm || self.closed { 0 } else { self.pace.ahead };
        let (mut waited, mut least) = (0_i64, 0);
        if !self.closed {
            for (amount, count) in &self.waiting {
                waited = waited.saturating_add(amount.saturating_mul(i64::try_from(*count).unwrap_or(i64::MAX)));
            }
            least = self.waiting.keys().next().copied().unwrap_or(0);
        }
        // What is too little for whoever waits goes back, where others may add to it; what is needed is kept; the rest goes back.
        let needed = if self.unspent < least { 0 } else { waited.saturating_add(ahead.saturating_mul(2)) };
        self.unspent = self.unspent.min(needed);
        let uses: Vec<GivenOut> = self.uses.drain(..self.uses.len().min(BATCH)).collect();
        let ended: Vec<_> = self.ended.drain(..self.ended.len().min(BATCH)).collect();
        self.asked = false;
        self.seq += 1;
        self.begun += 1;
        let keep = self.unspent + self.taken;
        let round = Round {
            terms,
            holder,
            seq: self.seq,
            keep,
            ask: waited.saturating_sub(self.unspent).max(0),
            least: (least - self.unspent).max(0),
            ahead: waited.saturating_add(ahead).saturating_sub(self.unspent.max(waited)).max(0),
            leaving: self.closed && self.taken == 0,
            uses: uses.iter().map(|one| one.told(now)).collect(),
            ended: ended.iter().map(|(ended, _)| *ended).collect(),
        };
        Flight { round, number: self.begun, sent: now, keep, uses, ended }
    }

    /// The account has answered.
    pub(in crate::app::shared) fn land(&mut self, flight: Flight, answer: Answer, lease: Duration) {
        let received = Instant::now();
        self.lose(flight.keep - answer.kept);
        self.unspent += answer.granted;
        self.good_until = Some(flight.sent + lease);
        self.clock = Some((answer.now, received));
        self.landed = Some(received);
        if answer.recalled {
            self.calm_until = Some(received + CALM);
        }
        self.last = Some(Ok(answer));
        self.over = flight.number;
        for (_, told) in flight.ended {
            // Whoever left asks again.
            let _ = told.send(Ok(()));
        }
    }

    /// The account does not have all of it any more. What is not decided yet and goes back must not be given out again then.
    const fn lose(&mut self, missing: i64) {
        if missing > self.unspent {
            (self.unspent, self.taken) = (0, 0);
            self.origin.term += 1;
        } else {
            self.unspent -= missing;
        }
    }

    /// The account did not take the message: what was given out is said again, who waits for an end is told to ask again.
    pub(in crate::app::shared) fn crash(&mut self, flight: Flight, error: &Error) {
        self.restore(flight.uses);
        self.last = Some(Err(error.clone()));
        self.over = flight.number;
        for (_, told) in flight.ended {
            let _ = told.send(Err(error.clone()));
        }
    }

    /// The account did not look at the message: all of it is said again.
    pub(in crate::app::shared) fn return_to_sender(&mut self, flight: Flight) {
        self.restore(flight.uses);
        for one in flight.ended.into_iter().rev() {
            self.ended.push_front(one);
        }
        self.asked = true;
    }

    /// There was no message.
    pub(in crate::app::shared) fn fail(&mut self, error: &Error) {
        self.asked = false;
        self.begun += 1;
        self.over = self.begun;
        self.last = Some(Err(error.clone()));
        for (_, told) in self.ended.drain(..) {
            let _ = told.send(Err(error.clone()));
        }
    }

    fn restore(&mut self, uses: Vec<GivenOut>) {
        for one in uses.into_iter().rev() {
            self.uses.push_front(one);
        }
    }

    /// Another message of this process was there first, of a life that it does not remember.
    pub(in crate::app::shared) const fn skip_ahead(&mut self) {
        self.seq += 3_600_000;
    }
}

impl GivenOut {
    fn told(&self, now: Instant) -> Use {
        Use {
            id: self.id,
            amount: self.amount,
            place: self.place,
            age: self.at.map(|at| millis(now.saturating_duration_since(at))),
            holder: self.holder,
            reserved_at: self.reserved_at,
        }
    }
}
