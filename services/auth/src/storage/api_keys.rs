//! `auth.api_keys`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::{ApiKeyId, OrganizationId};

use super::{scope_texts, scopes, unreadable};
use crate::domain::{ApiKey, DisplayName, Role, SecretDigest, Standing};

#[derive(sqlx::FromRow)]
struct Row {
    organization_id: Uuid,
    id: Uuid,
    display_name: String,
    user_id: Option<Uuid>,
    scopes: Vec<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    rotated_to: Option<Uuid>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        Self {
            organization: row.organization_id.into(),
            id: row.id.into(),
            display_name: DisplayName::from_stored(row.display_name),
            user: row.user_id.map(Into::into),
            scopes: scopes(&row.scopes),
            created: row.created_at,
            expires: row.expires_at,
            revoked: row.revoked_at,
            rotated_to: row.rotated_to.map(Into::into),
        }
    }
}

/// Stores a new one.
pub(crate) async fn insert(tx: &mut PgConnection, key: &ApiKey, digest: SecretDigest) -> Result<(), Error> {
    sqlx::query(
        "insert into auth.api_keys
             (id, organization_id, user_id, display_name, scopes, secret_hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(key.id.as_uuid())
    .bind(key.organization.as_uuid())
    .bind(key.user.map(Uuid::from))
    .bind(key.display_name.as_str())
    .bind(scope_texts(key.scopes))
    .bind(digest.as_bytes().as_slice())
    .bind(key.created)
    .bind(key.expires)
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads one.
pub(crate) async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ApiKeyId,
) -> Result<Option<ApiKey>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select organization_id, id, display_name, user_id, scopes, created_at, expires_at, revoked_at, rotated_to
         from auth.api_keys where organization_id = $1 and id = $2",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// Reads one and keeps others from changing it until the transaction ends.
pub(crate) async fn find_for_update(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ApiKeyId,
) -> Result<Option<ApiKey>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select organization_id, id, display_name, user_id, scopes, created_at, expires_at, revoked_at, rotated_to
         from auth.api_keys where organization_id = $1 and id = $2 for update",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// Up to `limit` of an organisation, oldest first, after the given one.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    after: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ApiKey>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select organization_id, id, display_name, user_id, scopes, created_at, expires_at, revoked_at, rotated_to
         from auth.api_keys
         where organization_id = $1 and id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
         order by id limit $3",
    )
    .bind(organization.as_uuid())
    .bind(after.map(Uuid::from))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// Stores how the key stands after it was revoked or rotated.
pub(crate) async fn update(tx: &mut PgConnection, key: &ApiKey) -> Result<(), Error> {
    sqlx::query(
        "update auth.api_keys set expires_at = $3, revoked_at = $4, rotated_to = $5
         where organization_id = $1 and id = $2",
    )
    .bind(key.organization.as_uuid())
    .bind(key.id.as_uuid())
    .bind(key.expires)
    .bind(key.revoked)
    .bind(key.rotated_to.map(Uuid::from))
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct StandingRow {
    organization_id: Uuid,
    user_id: Option<Uuid>,
    scopes: Vec<String>,
    secret_hash: Vec<u8>,
    expires_at: Option<DateTime<Utc>>,
    revoked: bool,
    owner_disabled: bool,
    owner_role: Option<String>,
}

/// What decides about a presented key: two reads by primary key, one round trip.
/// As the service's own role: whose key it is is the question.
pub(crate) async fn standing(connection: &mut PgConnection, id: ApiKeyId) -> Result<Option<Standing>, Error> {
    let row: Option<StandingRow> = sqlx::query_as(
        "select k.organization_id, k.user_id, k.scopes, k.secret_hash, k.expires_at,
                k.revoked_at is not null as revoked,
                coalesce(u.disabled_at is not null, false) as owner_disabled, u.role as owner_role
         from auth.api_keys k left join auth.users u on u.id = k.user_id
         where k.id = $1",
    )
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let owner_role = row
            .owner_role
            .map(|role| Role::from_stored(&role).ok_or_else(|| unreadable("a user's role")))
            .transpose()?;
        Ok(Standing {
            organization: row.organization_id.into(),
            user: row.user_id.map(Into::into),
            scopes: scopes(&row.scopes),
            digest: row.secret_hash,
            expires: row.expires_at,
            revoked: row.revoked,
            owner_disabled: row.owner_disabled,
            owner_role,
        })
    })
    .transpose()
}
