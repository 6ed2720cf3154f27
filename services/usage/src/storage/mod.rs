//! What is in PostgreSQL: small functions that take a transaction.
//!
//! deadpool-postgres and tokio-postgres, for binary COPY and pipelined statements. Prepared statements are kept per
//! connection, so a PgBouncer in between must track them (1.21 or newer).

pub mod books;
pub mod events;
pub mod feed;
pub mod report;
pub mod rollups;
pub mod rows;
mod unit;

use std::time::Duration;

use deadpool_postgres::Pool;
use futures::future::try_join;
use weir_types::OrganizationId;

pub use unit::Unit;
pub use weir_database::Error;

/// The pool, and the bound on each statement.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    statement_timeout: Duration,
}

impl Store {
    /// A store on `pool`.
    #[must_use]
    pub fn new(pool: Pool, statement_timeout: Duration) -> Self {
        Self { pool, statement_timeout }
    }

    /// Begins a transaction as the service's own role, which sees all tenants.
    ///
    /// # Errors
    /// When the database is not available.
    pub async fn begin(&self) -> Result<Unit, Error> {
        self.begin_with("begin isolation level read committed").await
    }

    /// Begins a transaction in which only the rows of `organization` exist, whatever the queries ask for.
    ///
    /// # Errors
    /// When the database is not available.
    pub async fn begin_tenant(&self, organization: OrganizationId) -> Result<Unit, Error> {
        // A UUID's text has nothing to escape.
        self.begin_with(&format!(
            "begin read only; set local role weir_usage_tenant; set local weir.organization = '{organization}'"
        ))
        .await
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.begin().await?.rollback().await
    }

    /// Begins a transaction that records: moves the feed's head on by `positions`, answers it, and holds it until the
    /// end. In the meantime nobody else records.
    ///
    /// # Errors
    /// When the database is not available.
    pub async fn begin_recording(&self, positions: i64) -> Result<(Unit, i64), Error> {
        let begin = self.bounded("begin isolation level read committed");
        self.open(&begin, Some(positions)).await
    }

    async fn begin_with(&self, begin: &str) -> Result<Unit, Error> {
        Ok(self.open(&self.bounded(begin), None).await?.0)
    }

    fn bounded(&self, begin: &str) -> String {
        format!("{begin}; set local statement_timeout = {}", self.statement_timeout.as_millis())
    }

    async fn open(&self, begin: &str, positions: Option<i64>) -> Result<(Unit, i64), Error> {
        let mut spare = self.pool.status().size;
        loop {
            let unit = Unit::open(self.pool.get().await?);
            match send_begin(&unit, begin, positions).await {
                Ok(head) => return Ok((unit, head)),
                // It died unnoticed in the pool. Nothing has happened on it yet, so the next one serves as well; after a
                // restart of the server that can be each of them.
                Err(error) if error.is_closed() && spare > 0 => spare -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn send_begin(unit: &Unit, begin: &str, positions: Option<i64>) -> Result<i64, tokio_postgres::Error> {
    let Some(positions) = positions else {
        unit.batch_execute(begin).await?;
        return Ok(0);
    };
    let advance = unit.prepare_cached(feed::ADVANCE).await?;
    // Both are on their way before the first is answered.
    let ((), row) = try_join(unit.batch_execute(begin), unit.query_one(&advance, &[&positions])).await?;
    row.try_get(0)
}
