//! Jobs as their tenants see them: inside a tenant's transaction.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use super::{JobKey, state};

/// A job that is counted no further: a position beyond it is said to be it.
const FAR: i64 = 10_000;

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct JobRow {
    pub(crate) organization_id: Uuid,
    pub(crate) job_id: Uuid,
    pub(crate) state: i16,
    pub(crate) current_step: i16,
    pub(crate) tries: i16,
    pub(crate) attempt: i32,
    pub(crate) place: i64,
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) position: Option<i32>,
    pub(crate) eta_ms: Option<i64>,
    pub(crate) reason: Option<i32>,
    pub(crate) message: Option<String>,
    pub(crate) http_status: Option<i32>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) schedule_id: Option<Uuid>,
    pub(crate) spec: Vec<u8>,
}

/// What a step came to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ResultRow {
    pub(crate) step: i16,
    pub(crate) attempts: i16,
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) accounting: Option<Vec<u8>>,
    pub(crate) ended_at: DateTime<Utc>,
}

/// Reads one.
pub(crate) async fn find(tx: &mut PgConnection, key: JobKey) -> Result<Option<JobRow>, Error> {
    let row = sqlx::query_as(
        "select organization_id, job_id, state, current_step, tries, attempt, place, due_at, expires_at, position, eta_ms,
             reason, message, http_status, created_at, started_at, ended_at, schedule_id, spec
         from broker.jobs where organization_id = $1 and job_id = $2",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .fetch_optional(tx)
    .await?;
    Ok(row)
}

/// The results of its steps, in order.
pub(crate) async fn results(tx: &mut PgConnection, key: JobKey) -> Result<Vec<ResultRow>, Error> {
    let rows = sqlx::query_as(
        "select step, attempts, body, content_type, accounting, ended_at
         from broker.job_results where organization_id = $1 and job_id = $2 order by step",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// Which of them are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    /// Delayed or ready.
    Queued,
    State(i16),
}

impl Filter {
    /// Only conditions that an index of live or failed jobs serves are told to Postgres as such.
    const fn condition(self) -> &'static str {
        match self {
            Self::All => "true",
            Self::Queued => "state < 3 and state < 2",
            Self::State(state::PROCESSING) => "state < 3 and state = 2",
            Self::State(state::FAILED) => "state = 4",
            Self::State(state::COMPLETE) => "state = 3",
            Self::State(_) => "state = 5",
        }
    }
}

/// The newest of an organisation that are older than `before`.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    filter: Filter,
    before: Option<Uuid>,
    most: i64,
) -> Result<Vec<JobRow>, Error> {
    let query = format!(
        "select organization_id, job_id, state, current_step, tries, attempt, place, due_at, expires_at, position, eta_ms,
             reason, message, http_status, created_at, started_at, ended_at, schedule_id, spec
         from broker.jobs
         where organization_id = $1 and job_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) and {}
         order by job_id desc limit $3",
        filter.condition()
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(organization.as_uuid())
        .bind(before)
        .bind(most)
        .fetch_all(tx)
        .await?;
    Ok(rows)
}

/// How a job stands, as cheaply as can be told: enough to see that something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Glance {
    pub(crate) organization_id: Uuid,
    pub(crate) job_id: Uuid,
    pub(crate) state: i16,
    pub(crate) current_step: i16,
    pub(crate) tries: i16,
    pub(crate) position: Option<i32>,
    /// Among those that are ready; none if it is not.
    pub(crate) ahead: Option<i64>,
}

/// Looks at many, of all tenants: for those who may see them already.
pub(crate) async fn glance(tx: &mut PgConnection, keys: &[JobKey]) -> Result<Vec<Glance>, Error> {
    let rows = sqlx::query_as(
        "select j.organization_id, j.job_id, j.state, j.current_step, j.tries, j.position,
             case when j.state = 1 then (select count(*) from (select 1 from broker.jobs o
                 where o.state = 1 and (o.place, o.job_id) < (j.place, j.job_id) limit $3) as before) end as ahead
         from broker.jobs j join unnest($1::uuid[], $2::uuid[]) as d(organization_id, job_id)
             on j.organization_id = d.organization_id and j.job_id = d.job_id",
    )
    .bind(keys.iter().map(|key| Uuid::from(key.organization)).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.job).collect::<Vec<_>>())
    .bind(FAR)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}
