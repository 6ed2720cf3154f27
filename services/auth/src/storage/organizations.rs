//! `auth.organizations`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use crate::domain::{DisplayName, Organization};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    display_name: String,
    created_at: DateTime<Utc>,
}

impl From<Row> for Organization {
    fn from(row: Row) -> Self {
        Self { id: row.id.into(), display_name: DisplayName::from_stored(row.display_name), created: row.created_at }
    }
}

/// Stores a new one; `false` if the id is taken.
pub(crate) async fn insert(tx: &mut PgConnection, organization: &Organization) -> Result<bool, Error> {
    let inserted = sqlx::query(
        "insert into auth.organizations (id, display_name, created_at) values ($1, $2, $3) on conflict (id) do nothing",
    )
    .bind(organization.id.as_uuid())
    .bind(organization.display_name.as_str())
    .bind(organization.created)
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Reads one.
pub(crate) async fn find(tx: &mut PgConnection, id: OrganizationId) -> Result<Option<Organization>, Error> {
    let row: Option<Row> = sqlx::query_as("select id, display_name, created_at from auth.organizations where id = $1")
        .bind(id.as_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(Organization::from))
}

/// Up to `limit` of all, oldest first, after the given one.
pub(crate) async fn list(
    tx: &mut PgConnection,
    after: Option<(DateTime<Utc>, OrganizationId)>,
    limit: i64,
) -> Result<Vec<Organization>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, display_name, created_at from auth.organizations
         where (created_at, id) > (coalesce($1, '-infinity'::timestamptz),
                                   coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid))
         order by created_at, id limit $3",
    )
    .bind(after.map(|(created, _)| created))
    .bind(after.map(|(_, id)| Uuid::from(id)))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Organization::from).collect())
}
