//! How far rating has come and what the books sum up to, for audits.

use super::Billing;
use crate::error::Result;
use crate::storage::status::{self, Sums};

/// What an audit compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// Of the books.
    pub(crate) sums: Sums,
    /// The newest durable position of usage's feed.
    pub(crate) feed_head: i64,
}

impl Billing {
    /// What an audit compares. The feed's head is read last, so it is never behind what is rated.
    ///
    /// # Errors
    /// When the database or usage doesn't answer.
    pub(crate) async fn status(&self) -> Result<Status> {
        let mut tx = self.database.begin().await?;
        let sums = status::sums(&mut tx).await?;
        tx.rollback().await?;
        Ok(Status { sums, feed_head: self.feed.head(sums.rated_position).await? })
    }
}
