//! What a tenant sees of its keys. Inside the tenant's transaction.

use sqlx::PgConnection;
use weir_database::Error;
use weir_types::{OrganizationId, ProviderKeyId, UserId};

use super::{COLUMNS, view};
use crate::domain::own_keys::{KeyView, Wrapped};

/// One key that is not deleted.
pub(crate) async fn get(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ProviderKeyId,
) -> Result<Option<KeyView>, Error> {
    let query = format!(
        "select {COLUMNS} from broker.provider_keys where organization_id = $1 and key_id = $2 and deleted_at is null"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(organization.as_uuid())
        .bind(id.as_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(row.as_ref().map(view).transpose()?)
}

/// Who may see which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All.
    All,
    /// The organisation's own, and this user's.
    By(Option<UserId>),
}

/// Keys that are not deleted, newest first, before the key `before`.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    seen: Seen,
    before: Option<ProviderKeyId>,
    limit: i64,
) -> Result<Vec<KeyView>, Error> {
    let (all, user) = match seen {
        Seen::All => (true, None),
        Seen::By(user) => (false, user),
    };
    let query = format!(
        "select {COLUMNS} from broker.provider_keys
         where organization_id = $1 and deleted_at is null and ($2::uuid is null or key_id < $2)
             and ($3 or user_id is null or user_id = $4)
         order by key_id desc limit $5"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(organization.as_uuid())
        .bind(before.map(uuid::Uuid::from))
        .bind(all)
        .bind(user.map(uuid::Uuid::from))
        .bind(limit)
        .fetch_all(tx)
        .await?;
    Ok(rows.iter().map(view).collect::<Result<_, _>>()?)
}

/// The tenant's data key, if it has one.
pub(crate) async fn data_key(tx: &mut PgConnection, organization: OrganizationId) -> Result<Option<Wrapped>, Error> {
    let row: Option<(i32, Vec<u8>)> =
        sqlx::query_as("select master_version, wrapped from broker.data_keys where organization_id = $1")
            .bind(organization.as_uuid())
            .fetch_optional(tx)
            .await?;
    Ok(row.map(|(master_version, bytes)| Wrapped { master_version, bytes }))
}
