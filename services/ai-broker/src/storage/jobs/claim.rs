//! Taking jobs, many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;
use weir_database::Error;

use super::JobKey;
use super::insert::NewJob;

/// A job that this broker has taken.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Claimed {
    organization_id: Uuid,
    job_id: Uuid,
    /// Whoever writes must name it.
    pub(crate) attempt: i32,
    pub(crate) current_step: i16,
    pub(crate) tries: i16,
    pub(crate) losses: i16,
    pub(crate) cancelled: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    /// By the store's clock.
    pub(crate) now: DateTime<Utc>,
    pub(crate) spec: Vec<u8>,
}

impl Claimed {
    /// Which job.
    pub(crate) fn key(&self) -> JobKey {
        JobKey::new(self.organization_id, self.job_id)
    }

    /// One that was taken as it was stored.
    pub(crate) fn at_once(new: &NewJob, now: DateTime<Utc>) -> Self {
        Self {
            organization_id: new.key.organization.into(),
            job_id: new.key.job,
            attempt: FIRST_ATTEMPT,
            current_step: 0,
            tries: 0,
            losses: 0,
            cancelled: false,
            created_at: now,
            expires_at: new.expires_at,
            now,
            spec: new.spec.clone(),
        }
    }
}

/// The number of a job's first attempt.
pub(crate) const FIRST_ATTEMPT: i32 = 1;

/// Takes up to `$1` of those that are ready for `$2` milliseconds.
pub(crate) const TAKE: &str = "update broker.jobs j
     set state = 2, attempt = j.attempt + 1, leased_until = now() + $2 * interval '1 ms',
         started_at = coalesce(j.started_at, now())
     from (select organization_id, job_id from broker.jobs
           where state = 1 order by place, job_id limit $1 for update skip locked) as ready
     where j.organization_id = ready.organization_id and j.job_id = ready.job_id
     returning j.organization_id, j.job_id, j.attempt, j.current_step, j.tries, j.losses, j.cancelled, j.created_at,
         j.expires_at, now() as now, j.spec";

/// Takes up to `most` of those that are ready, in their order; nobody else gets them before the lease has ended.
pub(crate) async fn claim(database: impl PgExecutor<'_>, most: usize, lease: Duration) -> Result<Vec<Claimed>, Error> {
    let claimed = sqlx::query_as(AssertSqlSafe(TAKE)).bind(limit(most)).bind(millis(lease)).fetch_all(database).await?;
    Ok(claimed)
}

/// The results of a job's steps so far, by their index.
pub(crate) async fn results(tx: &mut PgConnection, key: JobKey) -> Result<BTreeMap<i16, Bytes>, Error> {
    let rows: Vec<(i16, Vec<u8>)> =
        sqlx::query_as("select step, body from broker.job_results where organization_id = $1 and job_id = $2")
            .bind(key.organization.as_uuid())
            .bind(key.job)
            .fetch_all(tx)
            .await?;
    Ok(rows.into_iter().map(|(step, body)| (step, body.into())).collect())
}

/// For limits in SQL.
pub(super) fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// For intervals in SQL.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
