//! SQL, as small functions that take the connection: whoever calls them owns the transaction.

pub(crate) mod catalogues;
pub(crate) mod cursor;
pub(crate) mod ledger;
pub(crate) mod prices;
pub(crate) mod rated_events;
pub(crate) mod statements;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod unrated_events;

use sqlx::{Postgres, Transaction};

/// A result of the database.
pub(crate) type Result<T> = std::result::Result<T, weir_database::Error>;

/// A transaction of the service's pool.
pub(crate) type Tx = Transaction<'static, Postgres>;

/// Commits.
///
/// # Errors
/// When it did not, or nobody knows.
pub(crate) async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.commit().await?)
}
