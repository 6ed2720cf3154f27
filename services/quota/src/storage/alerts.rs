//! Soft alerts that have fired.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use crate::domain::shared::SharedScope;
use crate::domain::{LimitId, Millis, Recurrence};

/// An alert that may be due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// Whose.
    pub organization: OrganizationId,
    /// Of which limit.
    pub limit: LimitId,
    /// Whose counter.
    pub subject: String,
    /// The percentage that was reached.
    pub percent: u8,
    /// When it may fire again.
    pub recurrence: Recurrence,
    /// The cap that it is a percentage of.
    pub cap: i64,
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
    /// Whether a refusal was the reason.
    pub refused: bool,
    /// When, by the fast store's clock.
    pub at: Millis,
}

/// An alert that has fired.
#[derive(Debug, Clone)]
pub struct Fired {
    /// Its number; later ones have greater ones.
    pub id: i64,
    /// Whose.
    pub organization: OrganizationId,
    /// The limit's name, unit and scope.
    pub limit: (String, String, String),
    /// Whose counter; empty for the organisation's own.
    pub subject: String,
    /// The percentage that was reached.
    pub percent: i16,
    /// The cap that it is a percentage of.
    pub cap: i64,
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
    /// Whether a refusal was the reason.
    pub refused: bool,
    /// When.
    pub at: DateTime<Utc>,
    /// The period's start and end, if the window has fixed ones.
    pub period: Option<(Millis, Millis)>,
}

/// The lock under which alerts are numbered, so that their numbers are in the order of their commits: whoever reads on from one
/// misses none. Any number will do that nothing else in the database locks.
const ORDER: i64 = 0x7765_6972_616c_7274;

// What fires is due and not there yet. For a fixed period "there" is the same period with a cap as high or higher; for the others
// an alert that is not old enough. Two processes that decide the same at once make the same key, and one of them waits and loses.
const FIRE: &str = "
with due as (
    select n.*, case when n.quiet is null then n.period else coalesce(last.at, 0) end as place
    from unnest($1::uuid[], $2::int[], $3::text[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::bool[], $12::bigint[])
        as n (organization, limit_id, subject, percent, period, period_end, quiet, cap, used, held, refused, at)
    left join lateral (
        select (extract(epoch from max(a.fired_at)) * 1000)::bigint as at from quota.alerts a
        where a.organization_id = n.organization and a.limit_id = n.limit_id and a.subject = n.subject
            and a.percent = n.percent
    ) last on n.quiet is not null
    where case when n.quiet is null
        then not exists (
            select from quota.alerts a
            where a.organization_id = n.organization and a.limit_id = n.limit_id and a.subject = n.subject
                and a.percent = n.percent and a.period = n.period and a.cap >= n.cap)
        else coalesce(last.at, 0) + n.quiet <= n.at end
), fired as (
    insert into quota.alerts (organization_id, limit_id, subject, percent, period, period_end, cap, used, held, refused,
        fired_at, keep_until)
    select organization, limit_id, subject, percent, place, period_end, cap, used, held, refused,
        to_timestamp(at / 1000.0), to_timestamp(coalesce(period_end, at + quiet) / 1000.0)
    from due order by at, percent
    on conflict do nothing
    returning *
)
select fired.*, l.name, l.unit, l.scope from fired join quota.limits l on l.id = fired.limit_id order by alert_id";

/// Fires those that are due, each once however often and by however many this is done; answers which.
///
/// # Errors
/// The database's; then none was fired, and doing it again is safe.
pub async fn fire(connection: &mut PgConnection, alerts: &[NewAlert]) -> Result<Vec<Fired>, Error> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(ORDER).execute(&mut *connection).await?;
    let period = |alert: &NewAlert| match alert.recurrence {
        // A lifetime has an end that no calendar has.
        Recurrence::Period(period) if period == crate::domain::period::FOREVER => (0, None, None),
        Recurrence::Period(period) => (period.start, Some(period.end), None),
        Recurrence::Quiet(quiet) => (0, None, Some(quiet)),
    };
    let rows = sqlx::query(FIRE)
        .bind(alerts.iter().map(|alert| *alert.organization.as_uuid()).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| i32::try_from(alert.limit).unwrap_or(-1)).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.subject.as_str()).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| i16::from(alert.percent)).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| period(alert).0).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| period(alert).1).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| period(alert).2).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.cap).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.used).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.held).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.refused).collect::<Vec<_>>())
        .bind(alerts.iter().map(|alert| alert.at).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

const COLUMNS: &str =
    "select a.*, l.name, l.unit, l.scope from quota.alerts a join quota.limits l on l.id = a.limit_id";

/// A page of an organisation's alerts before one, newest first.
///
/// # Errors
/// The database's.
pub async fn page(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    before: Option<i64>,
    most: i64,
) -> Result<Vec<Fired>, Error> {
    let text = format!("{COLUMNS} where organization_id = $1 and alert_id < $2 order by alert_id desc limit $3");
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(organization.as_uuid())
        .bind(before.unwrap_or(i64::MAX))
        .bind(most)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// The alerts after one, in their order, of one organisation or of all.
///
/// # Errors
/// The database's.
pub async fn after(
    pool: &PgPool,
    organization: Option<&OrganizationId>,
    after: i64,
    most: i64,
) -> Result<Vec<Fired>, Error> {
    let text = format!(
        "{COLUMNS} where alert_id > $1 and ($2::uuid is null or organization_id = $2) order by alert_id limit $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(after)
        .bind(organization.map(|organization| *organization.as_uuid()))
        .bind(most)
        .fetch_all(pool)
        .await?;
    rows.iter().map(read).collect()
}

/// The number of the last alert; 0 if there is none.
///
/// # Errors
/// The database's.
pub async fn last(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("select coalesce(max(alert_id), 0) from quota.alerts").fetch_one(pool).await?)
}

/// Deletes some of the alerts that are older than `keep` and can't fire again in their period; answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_expired(pool: &PgPool, keep: Duration, most: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from quota.alerts where ctid = any(array(
             select ctid from quota.alerts
             where keep_until < now() and fired_at < now() - make_interval(secs => $1::double precision)
             order by keep_until limit $2))",
    )
    .bind(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX))
    .bind(most)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &sqlx::postgres::PgRow) -> Result<Fired, Error> {
    let period: Option<Millis> = row.try_get("period_end")?;
    let start: Millis = row.try_get("period")?;
    Ok(Fired {
        id: row.try_get("alert_id")?,
        organization: row.try_get::<Uuid, _>("organization_id")?.into(),
        limit: (row.try_get("name")?, row.try_get("unit")?, shown(row.try_get("scope")?)),
        subject: row.try_get("subject")?,
        percent: row.try_get("percent")?,
        cap: row.try_get("cap")?,
        used: row.try_get("used")?,
        held: row.try_get("held")?,
        refused: row.try_get("refused")?,
        at: row.try_get("fired_at")?,
        period: period.map(|end| (start, end)),
    })
}

/// A scope as people know it: those across tenants are stored apart.
fn shown(scope: String) -> String {
    SharedScope::from_stored(&scope).map_or(scope, |scope| scope.name().to_owned())
}
