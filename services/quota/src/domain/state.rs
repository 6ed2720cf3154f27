//! The counters of one subject as they stand in the fast store: one value, so that a script reads and writes them in one go.
//!
//! Layout: little-endian doubles, which hold integers up to 2^53. `generation, layout, sweep after (-1: never), entries`; per entry
//! `limit, at, spent, held, version, newest, size`; then the queues of the rolling entries in the same order, each of pairs
//! `bucket's end, amount`. `at` is the start of the period; of a rolling entry `-1 - length of its queue`, and its `version` is the
//! end of the oldest bucket in the queue. The newest bucket stands in the entry itself (`newest`, `size`): as long as it lasts, no
//! queue is touched. The scripts in `storage/redis/lua` read and write the same.

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

    /// Without what a reservation holds in a period, or in the bucket of a rolling window of this length that ends at `place`.
    pub fn give_back(&mut self, place: Millis, amount: i64, length: Option<Millis>, now: Millis) {
        match (&mut self.queue, length) {
            (Some(queue), Some(length)) => {
                self.held = (self.held - amount).max(0);
                // What was counted while a later bucket was the newest stands in the next one, if it has not left.
                let is_there = place + length > now && queue.first().is_some_and(|(oldest, _)| *oldest <= place);
                let bucket = queue.iter_mut().find(|(end, _)| *end >= place);
                if let Some((_, size)) = bucket.filter(|_| is_there) {
                    let returned = amount.min(*size);
                    (*size, self.spent) = (*size - returned, self.spent - returned);
                }
                queue.retain(|(_, size)| *size > 0);
            }
            (None, None) if self.period == place => self.held = (self.held - amount).max(0),
            _ => {}
        }
    }
}

const HEADER: usize = 32;
const ENTRY: usize = 56;
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
            let field = |place: usize| number(bytes, at + 8 * place);
            let period = field(1)?;
            let queue = match usize::try_from(-1 - period) {
                Err(_) => None,
                Ok(length) => {
                    let bucket = |at: usize| Some((number(bytes, at)?, number(bytes, at + 8)?));
                    let queue: Option<Vec<_>> = (0..length).map(|i| bucket(queue_at + BUCKET * i)).collect();
                    queue_at += BUCKET * length;
                    let mut queue = queue?;
                    queue.extend(Some((field(5)?, field(6)?)).filter(|(_, size)| *size > 0));
                    Some(queue)
                }
            };
            entries.push(Entry {
                limit: LimitId::try_from(field(0)?).ok()?,
                period: period.max(0),
                spent: field(2)?,
                held: field(3)?,
                version: if queue.is_some() { 0 } else { field(4)? },
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
