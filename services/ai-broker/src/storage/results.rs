//! `broker.results` and `broker.result_settings`: what lies in object storage, and who wants anything to.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

/// One object.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ResultObject {
    pub(crate) organization_id: Uuid,
    pub(crate) result_id: Uuid,
    pub(crate) extension: String,
    pub(crate) content_type: String,
    pub(crate) bytes: i64,
    pub(crate) etag: String,
    pub(crate) public: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl ResultObject {
    /// Where it lies, and what its address ends with.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}.{}", self.organization_id, self.result_id, self.extension)
    }
}

/// One object that is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewObject {
    pub(crate) organization: OrganizationId,
    pub(crate) id: Uuid,
    pub(crate) extension: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: i64,
    pub(crate) etag: String,
    pub(crate) public: bool,
}

/// What a tenant says of its results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ResultSettings {
    pub(crate) enabled: bool,
    /// In seconds; none: as long as the deployment keeps them.
    pub(crate) retention: Option<i64>,
}

/// Notes one, inside the tenant's transaction, also after a try that failed; none if the tenant wants nothing stored. It is kept for
/// the tenant's retention, at most for `longest`.
pub(crate) async fn note(
    tx: &mut PgConnection,
    new: &NewObject,
    longest: Duration,
) -> Result<Option<ResultObject>, Error> {
    let row = sqlx::query_as(
        "insert into broker.results (organization_id, result_id, extension, content_type, bytes, etag, public, expires_at)
         select $1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => least(retention, $8))
         from broker.result_settings where organization_id = $1 and enabled
         on conflict (organization_id, result_id) do update
         set extension = excluded.extension, content_type = excluded.content_type, bytes = excluded.bytes,
             etag = excluded.etag, public = excluded.public, expires_at = excluded.expires_at
         returning organization_id, result_id, extension, content_type, bytes, etag, public, created_at, expires_at",
    )
    .bind(new.organization.as_uuid())
    .bind(new.id)
    .bind(new.extension)
    .bind(new.content_type)
    .bind(new.bytes)
    .bind(&new.etag)
    .bind(new.public)
    .bind(seconds(longest))
    .fetch_optional(tx)
    .await?;
    Ok(row)
}

/// Reads one that has not expired, inside the tenant's transaction.
pub(crate) async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    result: Uuid,
) -> Result<Option<ResultObject>, Error> {
    let row = sqlx::query_as(
        "select organization_id, result_id, extension, content_type, bytes, etag, public, created_at, expires_at
         from broker.results where organization_id = $1 and result_id = $2 and expires_at > now()",
    )
    .bind(organization.as_uuid())
    .bind(result)
    .fetch_optional(tx)
    .await?;
    Ok(row)
}

/// The newest of a tenant that are older than `before`, inside its transaction.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    before: Option<Uuid>,
    most: i64,
) -> Result<Vec<ResultObject>, Error> {
    let rows = sqlx::query_as(
        "select organization_id, result_id, extension, content_type, bytes, etag, public, created_at, expires_at
         from broker.results
         where organization_id = $1 and result_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
           and expires_at > now()
         order by result_id desc limit $3",
    )
    .bind(organization.as_uuid())
    .bind(before)
    .bind(most)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// From now on it can't be read, and it is deleted with the next ones; whether there is one. Inside the tenant's transaction.
pub(crate) async fn expire(tx: &mut PgConnection, organization: OrganizationId, result: Uuid) -> Result<bool, Error> {
    let done = sqlx::query(
        "update broker.results set expires_at = now()
         where organization_id = $1 and result_id = $2 and expires_at > now()",
    )
    .bind(organization.as_uuid())
    .bind(result)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Those that have expired; no other broker gets them before the transaction ends.
pub(crate) async fn expired(tx: &mut PgConnection, most: i64) -> Result<Vec<ResultObject>, Error> {
    let rows = sqlx::query_as(
        "select organization_id, result_id, extension, content_type, bytes, etag, public, created_at, expires_at
         from broker.results where expires_at <= now() order by expires_at limit $1 for update skip locked",
    )
    .bind(most)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// Forgets those whose objects are gone.
pub(crate) async fn forget(tx: &mut PgConnection, gone: &[&ResultObject]) -> Result<(), Error> {
    sqlx::query(
        "delete from broker.results r using unnest($1::uuid[], $2::uuid[]) as d(organization_id, result_id)
         where r.organization_id = d.organization_id and r.result_id = d.result_id",
    )
    .bind(gone.iter().map(|object| object.organization_id).collect::<Vec<_>>())
    .bind(gone.iter().map(|object| object.result_id).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// What a tenant has said, inside its transaction.
pub(crate) async fn settings(tx: &mut PgConnection, organization: OrganizationId) -> Result<ResultSettings, Error> {
    let row = sqlx::query_as("select enabled, retention from broker.result_settings where organization_id = $1")
        .bind(organization.as_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(row.unwrap_or_default())
}

/// Keeps what a tenant says, inside its transaction.
pub(crate) async fn set(
    tx: &mut PgConnection,
    organization: OrganizationId,
    settings: ResultSettings,
) -> Result<(), Error> {
    sqlx::query(
        "insert into broker.result_settings (organization_id, enabled, retention) values ($1, $2, $3)
         on conflict (organization_id) do update set enabled = excluded.enabled, retention = excluded.retention",
    )
    .bind(organization.as_uuid())
    .bind(settings.enabled)
    .bind(settings.retention)
    .execute(tx)
    .await?;
    Ok(())
}

/// An answer of a job's step, with its content type, inside the tenant's transaction.
pub(crate) async fn answer(
    tx: &mut PgConnection,
    organization: OrganizationId,
    job: Uuid,
    step: i16,
) -> Result<Option<(Vec<u8>, String)>, Error> {
    let row = sqlx::query_as(
        "select body, content_type from broker.job_results where organization_id = $1 and job_id = $2 and step = $3",
    )
    .bind(organization.as_uuid())
    .bind(job)
    .bind(step)
    .fetch_optional(tx)
    .await?;
    Ok(row)
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
