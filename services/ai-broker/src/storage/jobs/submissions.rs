//! `broker.job_submissions`: requests of jobs that stand in a provider's queue.

use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::ReservationId;

use super::JobKey;

/// A request that a provider has taken.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Submission {
    /// What it is charged to.
    pub(crate) reservation_id: Uuid,
    /// Quota's word for the reservation.
    pub(crate) handle: Vec<u8>,
    /// The usage event if nothing better is known.
    pub(crate) draft: Vec<u8>,
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Which key it was made with; not the key.
    pub(crate) provider_key: String,
    /// The provider's own id.
    pub(crate) request_id: String,
}

/// Writes one down, in place of an earlier one of the step, inside the tenant's transaction; only for who has the job.
pub(crate) async fn keep(
    tx: &mut PgConnection,
    key: JobKey,
    step: i16,
    attempt: i32,
    submission: &Submission,
) -> Result<(), Error> {
    sqlx::query(
        "insert into broker.job_submissions
             (organization_id, job_id, step, reservation_id, handle, draft, provider, model, provider_key, request_id)
         select organization_id, job_id, $3, $5, $6, $7, $8, $9, $10, $11
         from broker.jobs where organization_id = $1 and job_id = $2 and attempt = $4
         on conflict (organization_id, job_id, step) do update
         set reservation_id = excluded.reservation_id, handle = excluded.handle, draft = excluded.draft,
             provider = excluded.provider, model = excluded.model, provider_key = excluded.provider_key,
             request_id = excluded.request_id",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .bind(step)
    .bind(attempt)
    .bind(submission.reservation_id)
    .bind(&submission.handle)
    .bind(&submission.draft)
    .bind(&submission.provider)
    .bind(&submission.model)
    .bind(&submission.provider_key)
    .bind(&submission.request_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// The step's, inside the tenant's transaction.
pub(crate) async fn find(tx: &mut PgConnection, key: JobKey, step: i16) -> Result<Option<Submission>, Error> {
    let found = sqlx::query_as(
        "select reservation_id, handle, draft, provider, model, provider_key, request_id
         from broker.job_submissions where organization_id = $1 and job_id = $2 and step = $3",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .bind(step)
    .fetch_optional(tx)
    .await?;
    Ok(found)
}

/// The step's request of this reservation has ended; inside the tenant's transaction.
pub(crate) async fn forget(
    tx: &mut PgConnection,
    key: JobKey,
    step: i16,
    reservation: ReservationId,
) -> Result<(), Error> {
    sqlx::query(
        "delete from broker.job_submissions
         where organization_id = $1 and job_id = $2 and step = $3 and reservation_id = $4",
    )
    .bind(key.organization.as_uuid())
    .bind(key.job)
    .bind(step)
    .bind(Uuid::from(reservation))
    .execute(tx)
    .await?;
    Ok(())
}
