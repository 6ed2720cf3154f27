//! Signs of life of the jobs that a broker has.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgExecutor;
use uuid::Uuid;
use weir_database::Error;

use super::JobKey;
use super::claim::millis;

/// One that is under way, and where it stands in a provider's line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    pub(crate) key: JobKey,
    pub(crate) attempt: i32,
    pub(crate) position: Option<i32>,
    pub(crate) eta_ms: Option<i64>,
}

/// Prolongs their leases; answers those that this broker has still, and whether their clients asked for the end. A position is
/// never told to grow.
pub(crate) async fn beat(
    database: impl PgExecutor<'_>,
    beats: &[Beat],
    lease: Duration,
) -> Result<HashMap<Uuid, bool>, Error> {
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(
        "update broker.jobs j
         set leased_until = now() + $6 * interval '1 ms',
             position = case when d.position is not null then least(j.position, d.position) end, eta_ms = d.eta_ms
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::bigint[])
             as d(organization_id, job_id, attempt, position, eta_ms)
         where j.organization_id = d.organization_id and j.job_id = d.job_id and j.attempt = d.attempt and j.state = 2
         returning j.job_id, j.cancelled",
    )
    .bind(beats.iter().map(|beat| Uuid::from(beat.key.organization)).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.key.job).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.attempt).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.position).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.eta_ms).collect::<Vec<_>>())
    .bind(millis(lease))
    .fetch_all(database)
    .await?;
    Ok(rows.into_iter().collect())
}
