//! Committed totals.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Row as _};
use weir_database::Error;
use weir_types::OrganizationId;

use crate::domain::{LimitId, Millis};

/// Which rows are wanted: of a limit and a subject, between two periods (both included).
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of which limit.
    pub limit: LimitId,
    /// Whose.
    pub subject: String,
    /// From this period.
    pub from: Millis,
    /// To this one.
    pub to: Millis,
}

/// A committed total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Of which limit.
    pub limit: LimitId,
    /// Whose.
    pub subject: String,
    /// The period's start, or the bucket's end.
    pub period: Millis,
    /// How much.
    pub committed: i64,
    /// Grows with every change.
    pub version: i64,
}

/// The committed totals of a tenant, in the order of their periods.
///
/// # Errors
/// The database's.
pub async fn load(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    wanted: &[Wanted],
) -> Result<Vec<Total>, Error> {
    let limits: Vec<i32> = wanted.iter().map(|one| i32::try_from(one.limit).unwrap_or(-1)).collect();
    let subjects: Vec<&str> = wanted.iter().map(|one| one.subject.as_str()).collect();
    let (from, to): (Vec<i64>, Vec<i64>) = wanted.iter().map(|one| (one.from, one.to)).unzip();
    let rows = sqlx::query(
        "select c.limit_id, c.subject, c.period, c.committed, c.version
         from unnest($2::int[], $3::text[], $4::bigint[], $5::bigint[]) w (limit_id, subject, first, last)
         join quota.counters c on c.organization_id = $1 and c.limit_id = w.limit_id and c.subject = w.subject
             and c.period between w.first and w.last
         order by c.period",
    )
    .bind(organization.as_uuid())
    .bind(&limits)
    .bind(&subjects)
    .bind(&from)
    .bind(&to)
    .fetch_all(connection)
    .await?;
    rows.iter().map(total).collect()
}

/// All totals of all tenants, for audits.
///
/// # Errors
/// The database's.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<(OrganizationId, Total)>, Error> {
    let rows = sqlx::query("select organization_id, limit_id, subject, period, committed, version from quota.counters")
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get::<uuid::Uuid, _>("organization_id")?.into(), total(row)?))).collect()
}

/// Takes part in restoring counters, if nobody else does; until the transaction's end.
///
/// # Errors
/// The database's.
pub async fn begin_restoring(connection: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query("set local idle_in_transaction_session_timeout = 0").execute(&mut *connection).await?;
    Ok(sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('quota.restore', 0))")
        .fetch_one(connection)
        .await?)
}

/// Organisations after `after` that have totals, each with how many rows, in the order of their ids.
///
/// # Errors
/// The database's.
pub async fn organizations(
    pool: &PgPool,
    after: &OrganizationId,
    most: i64,
) -> Result<Vec<(OrganizationId, i64)>, Error> {
    let rows: Vec<(uuid::Uuid, i64)> = sqlx::query_as(
        "select organization_id, count(*) from quota.counters where organization_id > $1
         group by organization_id order by organization_id limit $2",
    )
    .bind(after.as_uuid())
    .bind(most)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(id, rows)| (id.into(), rows)).collect())
}

/// Where a piece of about `most` subjects ends that have totals of these limits and come after `after`; none if there are fewer.
///
/// # Errors
/// The database's.
pub async fn piece(
    pool: &PgPool,
    organization: &OrganizationId,
    limits: &[LimitId],
    after: &str,
    most: i64,
) -> Result<Option<String>, Error> {
    let limits: Vec<i32> = limits.iter().map(|limit| i32::try_from(*limit).unwrap_or(-1)).collect();
    // The end for the limit that gets least far: the rows up to there are at most `most` of each.
    Ok(sqlx::query_scalar(
        "select min(piece.subject) from unnest($2::int[]) as l (id), lateral (
             select subject from quota.counters where organization_id = $1 and limit_id = l.id and subject > $3
             order by subject offset $4 limit 1) as piece",
    )
    .bind(organization.as_uuid())
    .bind(&limits)
    .bind(after)
    .bind(most)
    .fetch_one(pool)
    .await?)
}

/// The totals of these organisations that may matter still: all of them, or of the limits and subjects in a piece (`after`
/// excluded, `until` included).
///
/// # Errors
/// The database's.
pub async fn living(
    pool: &PgPool,
    organizations: &[OrganizationId],
    piece: Option<(&[LimitId], &str, Option<&str>)>,
) -> Result<Vec<(OrganizationId, Total)>, Error> {
    const COLUMNS: &str = "select organization_id, limit_id, subject, period, committed, version from quota.counters
        where organization_id = any($1) and (expires_at is null or expires_at > now())";
    let ids: Vec<uuid::Uuid> = organizations.iter().map(|id| *id.as_uuid()).collect();
    let rows = match piece {
        None => sqlx::query(COLUMNS).bind(&ids).fetch_all(pool).await?,
        Some((limits, after, until)) => {
            let limits: Vec<i32> = limits.iter().map(|limit| i32::try_from(*limit).unwrap_or(-1)).collect();
            let bounds = if until.is_some() { "and subject > $3 and subject <= $4" } else { "and subject > $3" };
            let text = format!("{COLUMNS} and limit_id = any($2) {bounds}");
            let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(&ids).bind(&limits).bind(after);
            match until {
                Some(until) => query.bind(until).fetch_all(pool).await?,
                None => query.fetch_all(pool).await?,
            }
        }
    };
    rows.iter().map(|row| Ok((row.try_get::<uuid::Uuid, _>("organization_id")?.into(), total(row)?))).collect()
}

/// A row of `limit_id, subject, period, committed, version`.
pub(super) fn total(row: &sqlx::postgres::PgRow) -> Result<Total, Error> {
    Ok(Total {
        limit: LimitId::try_from(row.try_get::<i32, _>("limit_id")?).unwrap_or(0),
        subject: row.try_get("subject")?,
        period: row.try_get("period")?,
        committed: row.try_get("committed")?,
        version: row.try_get("version")?,
    })
}

/// Deletes some of the totals that nobody has asked for since `keep`; answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_expired(pool: &PgPool, keep: Duration, most: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from quota.counters where ctid = any(array(
             select ctid from quota.counters
             where expires_at < now() - make_interval(secs => $1::double precision) order by expires_at limit $2))",
    )
    .bind(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX))
    .bind(most)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
