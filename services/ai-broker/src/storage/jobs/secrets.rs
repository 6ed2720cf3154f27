//! `broker.webhook_secrets`: which versions of a tenant's secret sign.

use std::time::Duration;

use sqlx::PgConnection;
use weir_database::Error;
use weir_types::OrganizationId;

use super::claim::millis;

/// The versions that sign now, the newest first; of a tenant that never rotated there is one.
pub(crate) async fn signing(tx: &mut PgConnection, organization: OrganizationId) -> Result<Vec<i32>, Error> {
    let row: Option<(i32, bool)> = sqlx::query_as(
        "select version, coalesce(previous_until > now(), false) from broker.webhook_secrets where organization_id = $1",
    )
    .bind(organization.as_uuid())
    .fetch_optional(tx)
    .await?;
    Ok(match row {
        None => vec![0],
        Some((version, true)) => vec![version, version - 1],
        Some((version, false)) => vec![version],
    })
}

/// Begins the next version, inside the tenant's transaction; answers it.
pub(crate) async fn rotate(
    tx: &mut PgConnection,
    organization: OrganizationId,
    overlap: Duration,
) -> Result<i32, Error> {
    let version = sqlx::query_scalar(
        "insert into broker.webhook_secrets as s (organization_id, version, previous_until)
         values ($1, 1, now() + $2 * interval '1 ms')
         on conflict (organization_id) do update
         set version = s.version + 1, previous_until = excluded.previous_until, created_at = now()
         returning version",
    )
    .bind(organization.as_uuid())
    .bind(millis(overlap))
    .fetch_one(tx)
    .await?;
    Ok(version)
}
