//! What becomes of jobs by themselves: they are due, lost, or too old.

use std::time::Duration;

use sqlx::PgConnection;
use weir_database::Error;

use super::claim::millis;

/// At most so many rows at once: a transaction stays short.
const BATCH: i64 = 1000;

/// Makes those ready whose time has come; answers how many.
pub(crate) async fn promote(tx: &mut PgConnection) -> Result<u64, Error> {
    let done = sqlx::query(
        "update broker.jobs j set state = 1
         from (select organization_id, job_id from broker.jobs where state = 0 and due_at <= now()
               order by due_at limit $1 for update skip locked) as due
         where j.organization_id = due.organization_id and j.job_id = due.job_id",
    )
    .bind(BATCH)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Makes those ready whose broker has been silent for longer than its lease; answers how many.
pub(crate) async fn reclaim(tx: &mut PgConnection) -> Result<u64, Error> {
    let done = sqlx::query(
        "update broker.jobs j set state = 1, losses = j.losses + 1, leased_until = null
         from (select organization_id, job_id from broker.jobs where state = 2 and leased_until < now()
               order by leased_until limit $1 for update skip locked) as lost
         where j.organization_id = lost.organization_id and j.job_id = lost.job_id",
    )
    .bind(BATCH)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes what ended longer ago, with its results and webhooks; answers how many jobs.
pub(crate) async fn forget(tx: &mut PgConnection, retention: Duration) -> Result<u64, Error> {
    let done = sqlx::query(
        "with old as (
             delete from broker.jobs j
             using (select organization_id, job_id from broker.jobs where ended_at < now() - $2 * interval '1 ms'
                    order by ended_at limit $1 for update skip locked) as ended
             where j.organization_id = ended.organization_id and j.job_id = ended.job_id
             returning j.organization_id, j.job_id),
         results as (
             delete from broker.job_results r using old
             where r.organization_id = old.organization_id and r.job_id = old.job_id)
         select 1 from old",
    )
    .bind(BATCH)
    .bind(millis(retention))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "delete from broker.webhook_deliveries w
         using (select organization_id, delivery_id from broker.webhook_deliveries
                where ended_at < now() - $2 * interval '1 ms' order by ended_at limit $1 for update skip locked) as ended
         where w.organization_id = ended.organization_id and w.delivery_id = ended.delivery_id",
    )
    .bind(BATCH)
    .bind(millis(retention))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Beyond this nobody counts.
const MANY: i64 = 100_000;

/// How many are delayed, ready and processed, up to a hundred thousand each; and for how many seconds the first that is ready has
/// been.
pub(crate) async fn census(tx: &mut PgConnection) -> Result<([i64; 3], f64), Error> {
    let (delayed, ready, processing, oldest) = sqlx::query_as(
        "select (select count(*) from (select 1 from broker.jobs where state = 0 limit $1) as few),
             (select count(*) from (select 1 from broker.jobs where state = 1 limit $1) as few),
             (select count(*) from (select 1 from broker.jobs where state = 2 limit $1) as few),
             coalesce((select extract(epoch from now() - due_at) from broker.jobs where state = 1
                 order by place, job_id limit 1), 0)::float8",
    )
    .bind(MANY)
    .fetch_one(tx)
    .await?;
    Ok(([delayed, ready, processing], oldest))
}
