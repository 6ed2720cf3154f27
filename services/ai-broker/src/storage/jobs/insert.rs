//! New jobs, many at once.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use super::claim::{FIRST_ATTEMPT, millis};
use super::{JobKey, state};

/// A job that is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) key: JobKey,
    /// When it is ready; none: at once.
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) priority: i32,
    pub(crate) place: i64,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body_hash: Vec<u8>,
    pub(crate) schedule: Option<Uuid>,
    pub(crate) spec: Vec<u8>,
}

/// A job that was there before under the same idempotency key.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Known {
    pub(crate) job_id: Uuid,
    pub(crate) body_hash: Option<Vec<u8>>,
}

/// Stores those whose idempotency key is new; answers which. With a lease whoever stores them has those that are ready taken.
pub(crate) async fn insert(
    database: impl PgExecutor<'_>,
    jobs: &[NewJob],
    lease: Option<Duration>,
) -> Result<HashSet<Uuid>, Error> {
    let ready = if lease.is_some() { state::PROCESSING } else { state::READY };
    let column = |of: fn(&NewJob) -> Uuid| jobs.iter().map(of).collect::<Vec<_>>();
    let stored: Vec<Uuid> = sqlx::query_scalar(
        "insert into broker.jobs (organization_id, job_id, state, priority, place, due_at, expires_at, idempotency_key,
             body_hash, schedule_id, spec, attempt, leased_until, started_at)
         select d.organization_id, d.job_id, d.state, d.priority, d.place, coalesce(d.due_at, now()), d.expires_at,
             d.idempotency_key, d.body_hash, d.schedule_id, d.spec,
             case when d.state = 2 then $12::integer else 0 end,
             case when d.state = 2 then now() + $13::bigint * interval '1 ms' end, case when d.state = 2 then now() end
         from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::integer[], $5::bigint[], $6::timestamptz[],
             $7::timestamptz[], $8::text[], $9::bytea[], $10::uuid[], $11::bytea[])
             as d(organization_id, job_id, state, priority, place, due_at, expires_at, idempotency_key, body_hash,
                 schedule_id, spec)
         on conflict (organization_id, idempotency_key) where idempotency_key is not null do nothing
         returning job_id",
    )
    .bind(column(|job| job.key.organization.into()))
    .bind(column(|job| job.key.job))
    .bind(jobs.iter().map(|job| if job.due_at.is_some() { state::DELAYED } else { ready }).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.priority).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.place).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.due_at).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.expires_at).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.idempotency_key.as_deref()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.body_hash.as_slice()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.schedule).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.spec.as_slice()).collect::<Vec<_>>())
    .bind(FIRST_ATTEMPT)
    .bind(lease.map(millis))
    .fetch_all(database)
    .await?;
    Ok(stored.into_iter().collect())
}

/// The job of an idempotency key.
pub(crate) async fn known(
    database: impl PgExecutor<'_>,
    organization: OrganizationId,
    idempotency_key: &str,
) -> Result<Option<Known>, Error> {
    let known =
        sqlx::query_as("select job_id, body_hash from broker.jobs where organization_id = $1 and idempotency_key = $2")
            .bind(organization.as_uuid())
            .bind(idempotency_key)
            .fetch_optional(database)
            .await?;
    Ok(known)
}
