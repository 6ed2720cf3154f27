//! Kept answers at hand: in this process for a moment, in front of Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stored;
use crate::domain::sealing::Name;

/// How long an answer is given without asking Redis again, from when Redis was asked for it. So long a broker may go on with what was
/// purged or replaced elsewhere, and so long a purge waits before it is answered.
pub(super) const AT_HAND: Duration = Duration::from_secs(1);

/// What an answer takes beside its body, about.
const OVERHEAD: usize = 512;

/// Answers that were read a moment ago, within a bound of bytes. Their names are keyed hashes, so each is its owner's alone.
pub(super) struct AtHand(moka::sync::Cache<Name, Read>);

#[derive(Clone)]
struct Read {
    stored: Arc<Stored>,
    asked: Instant,
}

impl AtHand {
    pub(super) fn new(bytes: u64) -> Self {
        let weigh = |_: &Name, read: &Read| u32::try_from(read.stored.len() + OVERHEAD).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).time_to_live(AT_HAND).build())
    }

    pub(super) fn get(&self, name: &Name) -> Option<Arc<Stored>> {
        // The cache counts from when an answer came, which may be later.
        self.0.get(name).filter(|read| read.asked.elapsed() < AT_HAND).map(|read| read.stored)
    }

    /// Takes what Redis gave, that was asked for it at `asked`.
    pub(super) fn put(&self, name: Name, stored: Arc<Stored>, asked: Instant) {
        self.0.insert(name, Read { stored, asked });
    }

    /// There is a newer one.
    pub(super) fn forget(&self, name: &Name) {
        self.0.invalidate(name);
    }
}
