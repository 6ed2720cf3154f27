//! All tenants' keys, as brokers follow them and keep them up. Under the service's own role.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ProviderKeyId};

use super::{COLUMNS, DataKeyRow, KeyRow, data_key_row, key_row, tick};
use crate::domain::own_keys::Wrapped;

/// The number of the last change.
pub(crate) async fn head(tx: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("select revision from broker.provider_key_clock").fetch_one(tx).await?)
}

/// Keys after a place in the order of all, deleted ones left out.
pub(crate) async fn all_keys(
    tx: &mut PgConnection,
    after: (OrganizationId, ProviderKeyId),
    limit: i64,
) -> Result<Vec<KeyRow>, Error> {
    let query = format!(
        "select {COLUMNS} from broker.provider_keys
         where deleted_at is null and (organization_id, key_id) > ($1, $2) order by organization_id, key_id limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(after.0.as_uuid())
        .bind(after.1.as_uuid())
        .bind(limit)
        .fetch_all(tx)
        .await?;
    Ok(rows.iter().map(key_row).collect::<Result<_, _>>()?)
}

/// Data keys of organisations after `after`.
pub(crate) async fn all_data_keys(
    tx: &mut PgConnection,
    after: OrganizationId,
    limit: i64,
) -> Result<Vec<DataKeyRow>, Error> {
    let rows = sqlx::query(
        "select organization_id, wrapped, master_version, revision from broker.data_keys
         where organization_id > $1 order by organization_id limit $2",
    )
    .bind(after.as_uuid())
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(data_key_row).collect::<Result<_, _>>()?)
}

/// Keys that changed after the change `after`, deleted ones included, in order.
pub(crate) async fn changed_keys(tx: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<KeyRow>, Error> {
    let query =
        format!("select {COLUMNS} from broker.provider_keys where revision > $1 order by revision, key_id limit $2");
    let rows = sqlx::query(AssertSqlSafe(query)).bind(after).bind(limit).fetch_all(tx).await?;
    Ok(rows.iter().map(key_row).collect::<Result<_, _>>()?)
}

/// Data keys that changed after the change `after`, in order.
pub(crate) async fn changed_data_keys(tx: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<DataKeyRow>, Error> {
    let rows = sqlx::query(
        "select organization_id, wrapped, master_version, revision from broker.data_keys
         where revision > $1 order by revision, organization_id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(data_key_row).collect::<Result<_, _>>()?)
}

/// Data keys that an older master key than `version` wraps.
pub(crate) async fn wrapped_before(tx: &mut PgConnection, version: i32, limit: i64) -> Result<Vec<DataKeyRow>, Error> {
    let rows = sqlx::query(
        "select organization_id, wrapped, master_version, revision from broker.data_keys
         where master_version < $1 order by organization_id limit $2",
    )
    .bind(version)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(data_key_row).collect::<Result<_, _>>()?)
}

/// Stores data keys that are wrapped anew, each only if nobody has done it meanwhile. Answers how many.
pub(crate) async fn rewrap(tx: &mut PgConnection, rewrapped: &[(OrganizationId, i32, Wrapped)]) -> Result<u64, Error> {
    let revision = tick(&mut *tx).await?;
    let done = sqlx::query(
        "update broker.data_keys d set wrapped = n.wrapped, master_version = n.version, revision = $5
         from unnest($1::uuid[], $2::integer[], $3::integer[], $4::bytea[]) n (organization_id, before, version, wrapped)
         where d.organization_id = n.organization_id and d.master_version = n.before",
    )
    .bind(rewrapped.iter().map(|(organization, _, _)| Uuid::from(*organization)).collect::<Vec<_>>())
    .bind(rewrapped.iter().map(|(_, before, _)| *before).collect::<Vec<_>>())
    .bind(rewrapped.iter().map(|(_, _, new)| new.master_version).collect::<Vec<_>>())
    .bind(rewrapped.iter().map(|(_, _, new)| new.bytes.clone()).collect::<Vec<_>>())
    .bind(revision)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Writes down when keys were used last.
pub(crate) async fn used(
    tx: &mut PgConnection,
    used: &[(OrganizationId, ProviderKeyId, DateTime<Utc>)],
) -> Result<(), Error> {
    sqlx::query(
        "update broker.provider_keys k set used_at = greatest(k.used_at, n.used_at)
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) n (organization_id, key_id, used_at)
         where k.organization_id = n.organization_id and k.key_id = n.key_id",
    )
    .bind(used.iter().map(|(organization, _, _)| Uuid::from(*organization)).collect::<Vec<_>>())
    .bind(used.iter().map(|(_, id, _)| Uuid::from(*id)).collect::<Vec<_>>())
    .bind(used.iter().map(|(_, _, at)| *at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes what is left of keys that were deleted long ago.
pub(crate) async fn purge(tx: &mut PgConnection, after: std::time::Duration) -> Result<(), Error> {
    let millis = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    sqlx::query("delete from broker.provider_keys where deleted_at < now() - $1 * interval '1 ms'")
        .bind(millis)
        .execute(tx)
        .await?;
    Ok(())
}
