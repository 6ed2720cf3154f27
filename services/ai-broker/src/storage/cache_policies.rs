//! `broker.cache_policies`: what organisations allow of their answers.

use std::time::Duration;

use sqlx::PgConnection;
use weir_database::Error;
use weir_types::OrganizationId;

use super::jobs::claim::millis;
use crate::domain::cache::TenantPolicy;

/// The organisation's policy; none was ever set.
pub(crate) async fn read(tx: &mut PgConnection, organization: OrganizationId) -> Result<Option<TenantPolicy>, Error> {
    let row: Option<(bool, bool, Option<i64>)> =
        sqlx::query_as("select enabled, shared, max_ttl_ms from broker.cache_policies where organization_id = $1")
            .bind(organization.as_uuid())
            .fetch_optional(tx)
            .await?;
    Ok(row.map(|(enabled, shared, max_ttl)| TenantPolicy {
        enabled,
        shared,
        max_ttl: max_ttl.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis),
    }))
}

/// Sets it.
pub(crate) async fn write(
    tx: &mut PgConnection,
    organization: OrganizationId,
    policy: &TenantPolicy,
) -> Result<(), Error> {
    sqlx::query(
        "insert into broker.cache_policies (organization_id, enabled, shared, max_ttl_ms) values ($1, $2, $3, $4)
         on conflict (organization_id) do update
         set enabled = excluded.enabled, shared = excluded.shared, max_ttl_ms = excluded.max_ttl_ms, updated_at = now()",
    )
    .bind(organization.as_uuid())
    .bind(policy.enabled)
    .bind(policy.shared)
    .bind(policy.max_ttl.map(millis))
    .execute(tx)
    .await?;
    Ok(())
}
