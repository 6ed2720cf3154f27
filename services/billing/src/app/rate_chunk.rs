//! Rates a chunk of the feed: the books, the ledger and the cursor in one transaction.

use std::time::Duration;

use uuid::Uuid;

use super::Billing;
use crate::domain::rating::{Prices, Rated, rate};
use crate::domain::usage::Change;
use crate::error::{Error, Result};
use crate::storage::{self, Tx, cursor, ledger, rated_events, unrated_events};

/// Who rates, and for how long nobody else does.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) holder: String,
    pub(super) length: Duration,
}

/// Where changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The feed.
    Feed,
    /// What could not be priced before.
    Retry,
}

impl Occasion {
    /// The first part of the ledger's idempotency keys.
    const fn key(self) -> &'static str {
        match self {
            Self::Feed => "rating",
            Self::Retry => "rerating",
        }
    }
}

/// What became of a chunk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Events that are in the books now.
    pub(super) rated: usize,
    /// Events that can't be priced.
    pub(super) unrated: usize,
    /// Events whose own price differs.
    pub(super) mismatches: usize,
}

impl Billing {
    /// Rates `changes`, which follow the position `from` in the feed. Either all of it is in the books and the cursor stands
    /// behind it, or nothing happened: whatever is killed, and whenever, nothing is rated twice or left out.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the cursor stands elsewhere: another replica has rated. Or the database doesn't answer.
    pub(super) async fn rate_chunk(&self, lease: &Lease, from: i64, changes: Vec<Change>) -> Result<Outcome> {
        let Some(to) = changes.last().map(|change| change.position) else { return Ok(Outcome::default()) };
        let mut tx = self.database.begin().await?;
        // First, so that a replica that comes too late learns it before it does the work, and waits for this one's end.
        if !cursor::advance(&mut tx, &lease.holder, from, to, lease.length).await? {
            return Err(Error::Superseded);
        }
        let rated = self.enter(&mut tx, changes, Occasion::Feed).await?;
        storage::commit(tx).await?;
        Ok(rated)
    }

    /// Enters changes into the books and the ledger.
    pub(super) async fn enter(&self, tx: &mut Tx, changes: Vec<Change>, occasion: Occasion) -> Result<Outcome> {
        let ids: Vec<Uuid> =
            changes.iter().filter_map(|change| change.usage.as_ref().ok()).map(|usage| usage.event_id).collect();
        let known = rated_events::known(tx, &ids).await?;
        let late = changes.iter().any(|change| change.revision > 1);
        let mut rated = rate(changes, known, &mut Prices::new(|version: &str| self.shelf.version(version)));
        if occasion == Occasion::Retry {
            rated.positions = bounds(&rated);
        }
        let now = self.clock.now();
        rated_events::put(tx, &rated.events).await?;
        if late || occasion == Occasion::Retry {
            // Only a later revision, or another try, can find what could not be priced before.
            unrated_events::settle(tx, &rated.events).await?;
        }
        unrated_events::put(tx, &rated.unrated, now).await?;
        rated_events::put_mismatches(tx, &rated.superseded, rated.mismatches()).await?;
        ledger::post(tx, &rated.postings(occasion.key()), now).await?;
        Ok(Outcome { rated: rated.events.len(), unrated: rated.unrated.len(), mismatches: rated.mismatches().count() })
    }
}

/// The positions of what was really rated: each is rated once, so no two transactions can have the same bounds.
fn bounds(rated: &Rated) -> (i64, i64) {
    let positions = || rated.events.iter().map(|event| event.position);
    (positions().min().unwrap_or_default(), positions().max().unwrap_or_default())
}
