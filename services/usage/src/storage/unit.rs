//! An open transaction.

use std::ops::Deref;

use deadpool_postgres::{ClientWrapper, Object};
use futures::future::try_join;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::Error;

/// A transaction that owns its pooled connection. Dropped before its end it takes the connection with it: the server
/// rolls back, and the pool never sees a connection in an unknown state.
#[derive(Debug)]
pub struct Unit(Option<Object>);

impl Unit {
    pub(super) fn open(connection: Object) -> Self {
        Self(Some(connection))
    }

    /// Commits.
    ///
    /// # Errors
    /// When the answer is lost: then it is unknown whether it took place.
    pub async fn commit(self) -> Result<(), Error> {
        self.batch_execute("commit").await?;
        self.close();
        Ok(())
    }

    /// Executes `statement` and sends COMMIT right behind it. When the statement fails, the server turns that COMMIT into
    /// a rollback.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and when the statement fails.
    pub async fn execute_and_commit(
        self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        // The driver sends when a future is polled first, and these are polled in order. A statement that was prepared
        // before leaves nothing to wait for in between.
        try_join(self.execute(statement, parameters), self.batch_execute("commit")).await?;
        self.close();
        Ok(())
    }

    /// Rolls back.
    ///
    /// # Errors
    /// When the connection is lost, which rolls back as well.
    pub async fn rollback(self) -> Result<(), Error> {
        self.batch_execute("rollback").await?;
        self.close();
        Ok(())
    }

    fn close(mut self) {
        drop(self.0.take());
    }
}

impl Deref for Unit {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        // Only `close` and `drop` take it, and both consume the unit.
        self.0.as_deref().unwrap_or_else(|| unreachable!("the unit is open"))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}
