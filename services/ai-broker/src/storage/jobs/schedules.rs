//! `broker.schedules`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

/// A schedule.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ScheduleRow {
    pub(crate) organization_id: Uuid,
    pub(crate) schedule_id: Uuid,
    pub(crate) cron: Option<String>,
    pub(crate) every_ms: Option<i64>,
    pub(crate) time_zone: String,
    pub(crate) next_at: DateTime<Utc>,
    pub(crate) priority: i32,
    pub(crate) spec: Vec<u8>,
    pub(crate) created_at: DateTime<Utc>,
}

/// Stores one, inside the tenant's transaction, unless the tenant has `most` of them; answers whether.
pub(crate) async fn insert(tx: &mut PgConnection, row: &ScheduleRow, most: i64) -> Result<bool, Error> {
    // Those who create at once wait for each other, so that the count holds.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('broker.schedules/' || $1::text, 0))")
        .bind(row.organization_id)
        .execute(&mut *tx)
        .await?;
    let done = sqlx::query(
        "insert into broker.schedules (organization_id, schedule_id, cron, every_ms, time_zone, next_at, priority, spec)
         select $1, $2, $3, $4, $5, $6, $7, $8
         where (select count(*) from broker.schedules where organization_id = $1) < $9",
    )
    .bind(row.organization_id)
    .bind(row.schedule_id)
    .bind(&row.cron)
    .bind(row.every_ms)
    .bind(&row.time_zone)
    .bind(row.next_at)
    .bind(row.priority)
    .bind(&row.spec)
    .bind(most)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The newest of a tenant that are older than `before`, inside its transaction.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    before: Option<Uuid>,
    most: i64,
) -> Result<Vec<ScheduleRow>, Error> {
    let rows = sqlx::query_as(
        "select organization_id, schedule_id, cron, every_ms, time_zone, next_at, priority, spec, created_at
         from broker.schedules
         where organization_id = $1 and schedule_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
         order by schedule_id desc limit $3",
    )
    .bind(organization.as_uuid())
    .bind(before)
    .bind(most)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// Ends one, inside the tenant's transaction; answers whether it was there.
pub(crate) async fn delete(tx: &mut PgConnection, organization: OrganizationId, schedule: Uuid) -> Result<bool, Error> {
    let done = sqlx::query("delete from broker.schedules where organization_id = $1 and schedule_id = $2")
        .bind(organization.as_uuid())
        .bind(schedule)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Those whose time has come; no other broker gets them before the transaction ends.
pub(crate) async fn due(tx: &mut PgConnection, most: i64) -> Result<Vec<ScheduleRow>, Error> {
    let rows = sqlx::query_as(
        "select organization_id, schedule_id, cron, every_ms, time_zone, next_at, priority, spec, created_at
         from broker.schedules where next_at <= now() order by next_at limit $1 for update skip locked",
    )
    .bind(most)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// Its next time; none ends it.
pub(crate) async fn advance(
    tx: &mut PgConnection,
    row: &ScheduleRow,
    next: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let query = match next {
        Some(_) => "update broker.schedules set next_at = $3 where organization_id = $1 and schedule_id = $2",
        None => {
            "delete from broker.schedules where organization_id = $1 and schedule_id = $2 and $3::timestamptz is null"
        }
    };
    sqlx::query(query).bind(row.organization_id).bind(row.schedule_id).bind(next).execute(tx).await?;
    Ok(())
}
