//! How far usage's feed is rated, and which replica has rating to itself.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;

use super::Result;

const FEED: &str = "usage";

/// Takes or renews the lease; answers the position, or nothing when another replica has it. Leases are timed by the database's
/// clock alone.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn take_lease(connection: &mut PgConnection, holder: &str, lease: Duration) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar(
        "update billing.rating_cursor set holder = $2, lease_end = clock_timestamp() + $3
         where feed = $1 and (holder = $2 or coalesce(lease_end, '-infinity') < clock_timestamp())
         returning position",
    )
    .bind(FEED)
    .bind(holder)
    .bind(interval(lease))
    .fetch_optional(connection)
    .await?)
}

/// Gives the lease back, if `holder` has it.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn release_lease(connection: &mut PgConnection, holder: &str) -> Result<()> {
    sqlx::query("update billing.rating_cursor set holder = null, lease_end = null where feed = $1 and holder = $2")
        .bind(FEED)
        .bind(holder)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the cursor from `from` to `to`, and locks it until the transaction ends; `false`, with nothing done, when it stands
/// elsewhere or another replica has the lease.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    holder: &str,
    from: i64,
    to: i64,
    lease: Duration,
) -> Result<bool> {
    let moved = sqlx::query(
        "update billing.rating_cursor set position = $4, lease_end = clock_timestamp() + $5
         where feed = $1 and holder = $2 and position = $3",
    )
    .bind(FEED)
    .bind(holder)
    .bind(from)
    .bind(to)
    .bind(interval(lease))
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// The position up to which everything is rated.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn position(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select position from billing.rating_cursor where feed = $1")
        .bind(FEED)
        .fetch_one(connection)
        .await?)
}

fn interval(span: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(span.as_micros()).unwrap_or(i64::MAX) }
}
