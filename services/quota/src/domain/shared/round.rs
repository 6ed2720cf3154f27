//! What a process says to an account, and what the account answers.

use weir_types::ReservationId;

use crate::domain::{Millis, Period};

/// A quota process, from its start to its end.
pub type HolderId = [u8; 16];

/// How an account counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// In the period that is under way.
    Period(Period),
    /// Over the last `length` milliseconds, in buckets of `grain`.
    Rolling {
        /// Of the window.
        length: Millis,
        /// The width of a bucket.
        grain: Millis,
    },
}

/// What holds for the whole account.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The most there may be.
    pub cap: i64,
    /// How it counts.
    pub measure: Measure,
    /// Whether its committed totals live in Postgres.
    pub durable: bool,
    /// For how long (ms) a slice is kept for a process that says nothing.
    pub lease: Millis,
    /// For how long (ms) a settlement is remembered.
    pub remember: Millis,
}

/// One message of a process.
#[derive(Debug, Clone)]
pub struct Round {
    /// What holds for the account.
    pub terms: Terms,
    /// Who says it.
    pub holder: HolderId,
    /// Grows with each message of the holder to this account: one that is overtaken changes nothing.
    pub seq: i64,
    /// What the holder still has of its slice: unspent, or in requests that are not decided yet.
    pub keep: i64,
    /// What requests wait for.
    pub ask: i64,
    /// The least that one of them waits for: less than that helps nobody.
    pub least: i64,
    /// What the holder would like to have in stock beyond that.
    pub ahead: i64,
    /// Whether it says good-bye.
    pub leaving: bool,
    /// What was given out.
    pub uses: Vec<Use>,
    /// What ended.
    pub ended: Vec<Ended>,
}

/// A reservation that counts in the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Which.
    pub id: ReservationId,
    /// How much.
    pub amount: i64,
    /// The start of the period; of a rolling window the end of the bucket, which only matters without an age.
    pub place: Millis,
    /// How long ago (ms), by the holder's own clock: a moment that is never too early wherever clocks are set. None if it was
    /// counted before and is announced again.
    pub age: Option<Millis>,
    /// Whose slice it was taken from.
    pub holder: HolderId,
    /// When it was made, by a store's clock.
    pub reserved_at: Millis,
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was used.
    Released,
    /// Committed with amounts that are assumed.
    Estimated,
    /// Committed.
    Final,
}

/// A reservation that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: ReservationId,
    /// Whose slice it was taken from.
    pub holder: HolderId,
    /// What was held.
    pub reserved: i64,
    /// What was used.
    pub actual: i64,
    /// What an estimate had said that `actual` replaces.
    pub before: i64,
    /// How it ended.
    pub ending: Ending,
    /// While which generation Postgres wrote it just now; none if it was written before. What was loaded for a later one has it.
    pub written_in: Option<u64>,
    /// The start of the period, or the end of the bucket.
    pub place: Millis,
    /// When it was made, by a store's clock.
    pub reserved_at: Millis,
    /// Total and version of the period's row in Postgres; version 0 if it has none.
    pub total: (i64, i64),
}

/// What an account says to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done(Answer),
    /// The totals must be loaded first; nothing was done.
    Cold,
    /// The store's clock is outside the period: it is this late there. Nothing was done.
    Outside(Millis),
    /// The account is in a later period, which began at this time. Nothing was done.
    Later(Millis),
    /// A later message of the holder was there first; nothing was done.
    Overtaken,
}

/// The account after a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The store's clock.
    pub now: Millis,
    /// What the holder keeps: never more than the account had for it.
    pub kept: i64,
    /// What it got.
    pub granted: i64,
    /// Committed and held, without what is in slices.
    pub used: i64,
    /// As much of `used` as surely counts nothing twice: without what is on the books and whose end this account has not been told.
    pub certain: i64,
    /// Of `used`, held.
    pub held: i64,
    /// What is in nobody's slice; negative when a cap was lowered.
    pub free: i64,
    /// What other processes that are alive have in their slices.
    pub others: i64,
    /// What is in the slices of processes that say nothing any more.
    pub lost: i64,
    /// When the last of those comes back at the latest.
    pub lost_until: Millis,
    /// Others ask for what is not needed.
    pub recalled: bool,
    /// Of a rolling window: its buckets by their end, oldest first.
    pub buckets: Vec<(Millis, i64)>,
}
