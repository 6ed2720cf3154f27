//! What an organisation used and owes in a period.

use weir_types::OrganizationId;

use super::Billing;
use crate::domain::statement::{Period, Statement};
use crate::error::Result;
use crate::storage::statements;

impl Billing {
    /// The statement of an organisation. What is durable in usage and not in it is counted, so that nobody takes a part for
    /// the whole.
    ///
    /// # Errors
    /// When the database doesn't answer, or usage, without which it can't be told whether the statement is complete.
    pub(crate) async fn statement(&self, organization: OrganizationId, period: Period) -> Result<Statement> {
        let mut tx = self.database.begin_tenant(organization).await?;
        sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
        let books = statements::books(&mut tx, organization, period).await?;
        tx.rollback().await?;
        let backlog = self.feed.backlog(books.position, organization, period).await?;
        Ok(Statement { organization, period, lines: books.lines, unrated_events: books.unpriced + backlog })
    }
}
