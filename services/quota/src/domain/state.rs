//! The counters of one subject as they stand in the fast store: one value, so that a script reads and writes them in one go.
//!
//! Layout, little-endian, doubles hold integers up to 2^53:
//! `generation f64, layout f64, sweep after f64 (-1: never), entries f64`,
//! per entry `limit u32, at f64, spent f64, held f64, version f64`, then the queues of the rolling entries in the same order,
//! each of pairs `bucket end f64, amount f64`. A rolling entry has `at = -1 - length of its queue`, another one the start of its
//! period. The scripts in `storage/redis/lua` read and write the same.

use super::{LimitId, Millis};

/// The counters of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectState {
    /// The generation of the fast store in which it was loaded.
    pub generation: u64,
    /// [`PlanScope::layout`](super::PlanScope::layout).
    pub layout: u64,
    /// When nothing in it can matter any more; none if it always will.
    pub sweep_after: Option<Millis>,
    /// The plan's counters in its order; after them those of former plans that still hold something.
    pub entries: Vec<Entry>,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which limit.
    pub limit: LimitId,
    /// The start of its period; 0 for a rolling window.
    pub period: Millis,
    /// Committed in the period. Of a rolling window: committed and held, in the buckets that have not been dropped yet.
    pub spent: i64,
    /// Held by reservations that are not settled.
    pub held: i64,
    /// The version of the row in Postgres that `spent` was read from; 0 if none.
    pub version: i64,
    /// Of a rolling window: its buckets by their end, oldest first.
    pub queue: Option<Vec<(Millis, i64)>>,
}

impl Entry {
    /// Committed and held.
    #[must_use]
    pub const fn used(&self) -> i64 {
        if self.queue.is_some() { self.spent } else { self.spent.saturating_add(self.held) }
    }
}

const HEADER: usize = 32;
const ENTRY: usize = 36;
const BUCKET: usize = 16;

impl SubjectState {
    /// Reads the stored value; none if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (generation, layout) = (number(bytes, 0)?, number(bytes, 8)?);
        let sweep = number(bytes, 16)?;
        let count = usize::try_from(number(bytes, 24)?).ok()?;
        let mut queue_at = HEADER + ENTRY.checked_mul(count)?;
        let mut entries = Vec::with_capacity(count.min(64));
        for place in 0..count {
            let at = HEADER + ENTRY * place;
            let limit = LimitId::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
            let period = number(bytes, at + 4)?;
            let queue = match usize::try_from(-1 - period) {
                Err(_) => None,
                Ok(length) => {
                    let read =
                        |i| Some((number(bytes, queue_at + BUCKET * i)?, number(bytes, queue_at + BUCKET * i + 8)?));
                    let queue: Option<Vec<_>> = (0..length).map(read).collect();
                    queue_at += BUCKET * length;
                    Some(queue?)
                }
            };
            entries.push(Entry {
                limit,
                period: period.max(0),
                spent: number(bytes, at + 12)?,
                held: number(bytes, at + 20)?,
                version: number(bytes, at + 28)?,
                queue,
            });
        }
        Some(Self {
            generation: u64::try_from(generation).ok()?,
            layout: u64::try_from(layout).ok()?,
            sweep_after: (sweep >= 0).then_some(sweep),
            entries,
        })
    }

    /// The counter of a limit.
    #[must_use]
    pub fn entry(&self, limit: LimitId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.limit == limit)
    }
}

/// The scripts write nothing but integers within ±2^53.
#[expect(clippy::cast_possible_truncation, reason = "the scripts write integers within 2^53")]
fn number(bytes: &[u8], at: usize) -> Option<i64> {
    let value = f64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    Some(value as i64)
}
