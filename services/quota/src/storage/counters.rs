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
