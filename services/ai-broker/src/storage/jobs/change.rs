//! What a tenant does to its job, inside its transaction.

use std::time::Duration;

use sqlx::PgConnection;
use weir_database::Error;

use super::JobKey;
use super::claim::millis;

/// Asks for a job's end: one that nobody works on has ended with it, one under way is told. Answers the state that it was in; none
/// if there is no such job.
pub(crate) async fn cancel(tx: &mut PgConnection, key: JobKey) -> Result<Option<i16>, Error> {
    let before = sqlx::query_scalar(
        "update broker.jobs j
         set cancelled = j.cancelled or j.state < 3,
             state = case when j.state < 2 then 5 else j.state end,
             ended_at = case when j.state < 2 then now() else j.ended_at end
         from (select organization_id, job_id, state from broker.jobs
               where organization_id = $1 and job_id = $2 for update) as before
         where j.organization_id = before.organization_id and j.job_id = before.job_id
         returning before.state",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .fetch_optional(tx)
    .await?;
    Ok(before)
}

/// Makes a dead job ready again, with as long to live as it had at first, and at most `longest`. Answers whether it was dead.
pub(crate) async fn rerun(tx: &mut PgConnection, key: JobKey, place: i64, longest: Duration) -> Result<bool, Error> {
    let done = sqlx::query(
        "update broker.jobs
         set state = 1, tries = 0, losses = 0, cancelled = false, due_at = now(), place = $3, ended_at = null,
             expires_at = now() + least(expires_at - created_at, $4 * interval '1 ms'), position = null, eta_ms = null,
             reason = null, message = null, http_status = null
         where organization_id = $1 and job_id = $2 and state in (4, 5)",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .bind(place)
    .bind(millis(longest))
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
