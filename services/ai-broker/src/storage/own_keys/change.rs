//! Changes of a tenant's keys. Inside the tenant's transaction, each under a number of its own.

use sqlx::PgConnection;
use weir_database::Error;
use weir_types::{OrganizationId, ProviderKeyId};

use super::tick;
use crate::domain::own_keys::{Holder, KeyLimits, Wrapped};

/// The constraint that holds a user or an organisation to one key for each provider.
pub(crate) const ONE_PER_HOLDER: &str = "provider_keys_one_per_holder";

/// Stores a tenant's first data key.
pub(crate) async fn insert_data_key(
    tx: &mut PgConnection,
    organization: OrganizationId,
    wrapped: &Wrapped,
) -> Result<(), Error> {
    let revision = tick(&mut *tx).await?;
    sqlx::query(
        "insert into broker.data_keys (organization_id, wrapped, master_version, revision) values ($1, $2, $3, $4)
         on conflict (organization_id) do nothing",
    )
    .bind(organization.as_uuid())
    .bind(&wrapped.bytes)
    .bind(wrapped.master_version)
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(())
}

/// A key to store.
#[derive(Debug)]
pub(crate) struct NewKey<'a> {
    pub(crate) id: ProviderKeyId,
    pub(crate) holder: &'a Holder,
    pub(crate) label: &'a str,
    pub(crate) last_four: &'a str,
    pub(crate) limits: KeyLimits,
    pub(crate) sealed: &'a [u8],
}

/// Stores a key.
///
/// # Errors
/// A conflict with [`ONE_PER_HOLDER`].
pub(crate) async fn insert(tx: &mut PgConnection, key: NewKey<'_>) -> Result<(), Error> {
    let revision = tick(&mut *tx).await?;
    sqlx::query(
        "insert into broker.provider_keys (organization_id, key_id, user_id, provider, label, last_four, sealed,
             requests_per_minute, tokens_per_minute, cost_nano_usd_per_month, revision)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(key.holder.organization.as_uuid())
    .bind(key.id.as_uuid())
    .bind(key.holder.user.map(uuid::Uuid::from))
    .bind(&key.holder.provider)
    .bind(key.label)
    .bind(key.last_four)
    .bind(key.sealed)
    .bind(key.limits.requests_per_minute)
    .bind(key.limits.tokens_per_minute)
    .bind(key.limits.cost_per_month.map(|cost| cost.0))
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts another secret in the place of a key's; false if there is no such key any more.
pub(crate) async fn rotate(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ProviderKeyId,
    sealed: &[u8],
    last_four: &str,
) -> Result<bool, Error> {
    let revision = tick(&mut *tx).await?;
    let done = sqlx::query(
        "update broker.provider_keys set sealed = $3, last_four = $4, revision = $5, updated_at = now()
         where organization_id = $1 and key_id = $2 and deleted_at is null",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .bind(sealed)
    .bind(last_four)
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Changes what is told of a key; false if there is no such key any more.
pub(crate) async fn update(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ProviderKeyId,
    label: &str,
    limits: KeyLimits,
) -> Result<bool, Error> {
    let revision = tick(&mut *tx).await?;
    let done = sqlx::query(
        "update broker.provider_keys set label = $3, requests_per_minute = $4, tokens_per_minute = $5,
             cost_nano_usd_per_month = $6, revision = $7, updated_at = now()
         where organization_id = $1 and key_id = $2 and deleted_at is null",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .bind(label)
    .bind(limits.requests_per_minute)
    .bind(limits.tokens_per_minute)
    .bind(limits.cost_per_month.map(|cost| cost.0))
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets a key's secret; false if there is no such key any more. The rest of the row tells the brokers.
pub(crate) async fn delete(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ProviderKeyId,
) -> Result<bool, Error> {
    let revision = tick(&mut *tx).await?;
    let done = sqlx::query(
        "update broker.provider_keys set sealed = '', revision = $3, deleted_at = now()
         where organization_id = $1 and key_id = $2 and deleted_at is null",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}
