//! `broker.idempotent_calls`: which idempotency keys have been seen, and what came of their calls.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use super::jobs::claim::millis;
use crate::domain::sealing::Name;

/// How a call stands that another request has claimed.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Known {
    /// Of what was asked.
    pub(crate) request: Vec<u8>,
    /// It has ended.
    pub(crate) ended: bool,
    /// Its broker is taken for dead, and a provider may have been asked.
    pub(crate) lost: bool,
    pub(crate) answer: Option<Vec<u8>>,
}

/// Claims a name that nobody has: one that is new, that is expired, or whose broker died before any provider was asked for the
/// same request. Answers whether it could.
pub(crate) async fn claim(
    tx: &mut PgConnection,
    organization: OrganizationId,
    name: &Name,
    request: &Name,
    claim: Uuid,
    lease: Duration,
    retention: Duration,
) -> Result<bool, Error> {
    let claimed = sqlx::query(
        "insert into broker.idempotent_calls as c (organization_id, name, request, claim, leased_until, expires_at)
         values ($1, $2, $3, $4, now() + $5 * interval '1 ms', now() + $6 * interval '1 ms')
         on conflict (organization_id, name) do update
         set request = excluded.request, state = 0, claim = excluded.claim, leased_until = excluded.leased_until,
             expires_at = excluded.expires_at, answer = null
         where c.expires_at <= now() or (c.state = 0 and c.leased_until <= now() and c.request = excluded.request)",
    )
    .bind(organization.as_uuid())
    .bind(name.as_slice())
    .bind(request.as_slice())
    .bind(claim)
    .bind(millis(lease))
    .bind(millis(retention))
    .execute(tx)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// How the call of a name stands; none if it has been forgotten.
pub(crate) async fn known(
    tx: &mut PgConnection,
    organization: OrganizationId,
    name: &Name,
) -> Result<Option<Known>, Error> {
    let known = sqlx::query_as(
        "select request, state = 2 as ended, state = 1 and leased_until <= now() as lost, answer
         from broker.idempotent_calls where organization_id = $1 and name = $2",
    )
    .bind(organization.as_uuid())
    .bind(name.as_slice())
    .fetch_optional(tx)
    .await?;
    Ok(known)
}

/// A provider is about to be asked. Answers whether the claim still stands.
pub(crate) async fn ask(tx: &mut PgConnection, organization: OrganizationId, claim: Uuid) -> Result<bool, Error> {
    let asked = sqlx::query(
        "update broker.idempotent_calls set state = 1 where organization_id = $1 and claim = $2 and state = 0",
    )
    .bind(organization.as_uuid())
    .bind(claim)
    .execute(tx)
    .await?;
    Ok(asked.rows_affected() == 1)
}

/// The call has ended, with this.
pub(crate) async fn end(
    tx: &mut PgConnection,
    organization: OrganizationId,
    claim: Uuid,
    answer: Option<&[u8]>,
) -> Result<(), Error> {
    sqlx::query(
        "update broker.idempotent_calls set state = 2, answer = $3
         where organization_id = $1 and claim = $2 and state < 2",
    )
    .bind(organization.as_uuid())
    .bind(claim)
    .bind(answer)
    .execute(tx)
    .await?;
    Ok(())
}

/// Nothing came of the call, and nothing was charged: the name is free again.
pub(crate) async fn release(tx: &mut PgConnection, organization: OrganizationId, claim: Uuid) -> Result<(), Error> {
    sqlx::query("delete from broker.idempotent_calls where organization_id = $1 and claim = $2 and state < 2")
        .bind(organization.as_uuid())
        .bind(claim)
        .execute(tx)
        .await?;
    Ok(())
}

/// The calls of these claims are still under way.
pub(crate) async fn beat(tx: &mut PgConnection, claims: &[Uuid], lease: Duration) -> Result<(), Error> {
    sqlx::query(
        "update broker.idempotent_calls set leased_until = now() + $2 * interval '1 ms'
         where claim = any($1) and state < 2",
    )
    .bind(claims)
    .bind(millis(lease))
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets some whose time is over; answers how many.
pub(crate) async fn forget(tx: &mut PgConnection) -> Result<u64, Error> {
    let forgotten = sqlx::query(
        "delete from broker.idempotent_calls where (organization_id, name) in (
             select organization_id, name from broker.idempotent_calls where expires_at <= now()
             order by expires_at limit 1000 for update skip locked)",
    )
    .execute(tx)
    .await?;
    Ok(forgotten.rows_affected())
}
