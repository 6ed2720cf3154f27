//! The last entitlements that billing gave.

use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

/// Keeps what billing gave, unless something newer is there.
///
/// # Errors
/// The database's.
pub async fn store(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    version: i64,
    body: &[u8],
) -> Result<(), Error> {
    sqlx::query(
        "insert into quota.entitlements as e (organization_id, version, body) values ($1, $2, $3)
         on conflict (organization_id) do update
         set version = excluded.version, body = excluded.body, fetched_at = now()
         where e.version < excluded.version or (e.version = excluded.version and e.body <> excluded.body)",
    )
    .bind(organization.as_uuid())
    .bind(version)
    .bind(body)
    .execute(connection)
    .await?;
    Ok(())
}

/// What is kept: the version and the message.
///
/// # Errors
/// The database's.
pub async fn load(
    connection: &mut PgConnection,
    organization: &OrganizationId,
) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let row = sqlx::query("select version, body from quota.entitlements where organization_id = $1")
        .bind(organization.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((row.try_get("version")?, row.try_get("body")?))).transpose()
}

/// What is kept of these organisations.
///
/// # Errors
/// The database's.
pub async fn load_all(
    pool: &PgPool,
    organizations: &[OrganizationId],
) -> Result<Vec<(OrganizationId, Vec<u8>)>, Error> {
    if organizations.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = organizations.iter().map(|id| *id.as_uuid()).collect();
    let rows = sqlx::query("select organization_id, body from quota.entitlements where organization_id = any($1)")
        .bind(&ids)
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok((row.try_get::<Uuid, _>("organization_id")?.into(), row.try_get("body")?))).collect()
}
