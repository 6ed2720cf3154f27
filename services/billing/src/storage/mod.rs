//! SQL, as small functions that take the connection: whoever calls them owns the transaction.

pub mod catalogues;
pub mod cursor;
pub mod ledger;
pub mod prices;
pub mod rated_events;
pub mod statements;
pub mod status;
pub mod subscriptions;
pub mod unrated_events;

use sqlx::{Postgres, Transaction};

/// A result of the database.
pub type Result<T> = std::result::Result<T, weir_database::Error>;

/// A transaction of the service's pool.
pub type Tx = Transaction<'static, Postgres>;

/// Commits.
///
/// # Errors
/// When it did not, or nobody knows.
pub async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.commit().await?)
}
