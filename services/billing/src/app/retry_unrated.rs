//! Tries events again that could not be priced: a price book may have come since.

use super::Billing;
use super::rate_chunk::{Lease, Occasion};
use crate::domain::rating::MAX_CHUNK;
use crate::error::{Error, Result};
use crate::storage::{self, cursor, unrated_events};

impl Billing {
    /// Tries all of them again, chunk by chunk, while the cursor stands at `position`. Answers how many were rated, and how
    /// many remain.
    ///
    /// # Errors
    /// [`Error::Superseded`] when another replica rates, or the database doesn't answer.
    pub(super) async fn retry_unrated(&self, lease: &Lease, position: i64) -> Result<(usize, i64)> {
        let (mut after, mut total) = (i64::MIN, 0);
        loop {
            let mut tx = self.database.begin().await?;
            if !cursor::advance(&mut tx, &lease.holder, position, position, lease.length).await? {
                return Err(Error::Superseded);
            }
            let limit = i64::try_from(MAX_CHUNK).unwrap_or(i64::MAX);
            let changes = unrated_events::readable(&mut tx, after, limit).await?;
            let Some(last) = changes.last().map(|change| change.position) else {
                unrated_events::drop_outdated(&mut tx).await?;
                let remaining = unrated_events::count(&mut tx).await?;
                storage::commit(tx).await?;
                return Ok((total, remaining));
            };
            total += self.enter(&mut tx, changes, Occasion::Retry).await?.rated;
            storage::commit(tx).await?;
            after = last;
        }
    }
}
