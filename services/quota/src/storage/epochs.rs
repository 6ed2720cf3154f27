//! The generations of the fast store.

use sqlx::{PgConnection, PgPool};
use weir_database::Error;

/// Takes the next number, and says whether anything may have been counted under one before.
///
/// # Errors
/// The database's.
pub async fn next(pool: &PgPool, server: &str) -> Result<(u64, bool), Error> {
    let (number, earlier): (i64, bool) = sqlx::query_as(
        "with next as (insert into quota.epochs (server) values ($1) returning generation)
         select generation, exists (select from quota.epochs where in_force) from next",
    )
    .bind(server)
    .fetch_one(pool)
    .await?;
    Ok((u64::try_from(number).unwrap_or(0), earlier))
}

/// Must be done before counters are read for a generation: waits for what is being settled in earlier ones, and from then on nothing
/// is. So what is read has all that was ever settled there.
///
/// # Errors
/// The database's. Doing it again is safe.
pub async fn read_for(pool: &PgPool, number: u64) -> Result<(), Error> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query("select quota.read_for($1)").bind(number).execute(pool).await?;
    Ok(())
}

/// Notes that a generation is in force. Nobody counts anything in it before.
///
/// # Errors
/// The database's.
pub async fn enforce(pool: &PgPool, generation: u64) -> Result<(), Error> {
    sqlx::query("update quota.epochs set in_force = true where generation = $1 and not in_force")
        .bind(i64::try_from(generation).unwrap_or(i64::MAX))
        .execute(pool)
        .await?;
    Ok(())
}

/// The last number that was taken; 0 if none was.
///
/// # Errors
/// The database's.
pub async fn last(connection: &mut PgConnection) -> Result<u64, Error> {
    let number: i64 =
        sqlx::query_scalar("select coalesce(max(generation), 0) from quota.epochs").fetch_one(connection).await?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Whether the first generation began within so many seconds.
///
/// # Errors
/// The database's.
pub async fn began_within(pool: &PgPool, seconds: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select coalesce(min(began_at) > now() - make_interval(secs => $1::double precision), true) from quota.epochs",
    )
    .bind(seconds)
    .fetch_one(pool)
    .await?)
}
