//! `auth.users`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, UserId};

use super::unreadable;
use crate::domain::{DisplayName, Email, Role, User};

/// The constraint that makes e-mail addresses unique in the product.
pub(crate) const EMAIL_CONSTRAINT: &str = "users_email_key";

#[derive(sqlx::FromRow)]
struct Row {
    organization_id: Uuid,
    id: Uuid,
    email: String,
    display_name: String,
    role: String,
    created_at: DateTime<Utc>,
    disabled_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for User {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            organization: row.organization_id.into(),
            id: row.id.into(),
            email: row.email,
            display_name: DisplayName::from_stored(row.display_name),
            role: Role::from_stored(&row.role).ok_or_else(|| unreadable("a user's role"))?,
            created: row.created_at,
            disabled: row.disabled_at,
        })
    }
}

/// Stores a new one. A taken address is a conflict of [`EMAIL_CONSTRAINT`].
pub(crate) async fn insert(
    tx: &mut PgConnection,
    user: &User,
    email: &Email,
    password_hash: Option<&str>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into auth.users (id, organization_id, email, email_key, display_name, role, password_hash, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(user.id.as_uuid())
    .bind(user.organization.as_uuid())
    .bind(email.as_str())
    .bind(email.key())
    .bind(user.display_name.as_str())
    .bind(user.role.as_str())
    .bind(password_hash)
    .bind(user.created)
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads one.
pub(crate) async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: UserId,
) -> Result<Option<User>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "select organization_id, id, email, display_name, role, created_at, disabled_at
         from auth.users where organization_id = $1 and id = $2",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .fetch_optional(tx)
    .await?;
    row.map(User::try_from).transpose()
}

/// Up to `limit` of an organisation, oldest first, after the given one.
pub(crate) async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    after: Option<UserId>,
    limit: i64,
) -> Result<Vec<User>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select organization_id, id, email, display_name, role, created_at, disabled_at
         from auth.users
         where organization_id = $1 and id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
         order by id limit $3",
    )
    .bind(organization.as_uuid())
    .bind(after.map(Uuid::from))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

/// Disables one; `false` if there is none that isn't disabled already.
pub(crate) async fn disable(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: UserId,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let updated = sqlx::query(
        "update auth.users set disabled_at = $3 where organization_id = $1 and id = $2 and disabled_at is null",
    )
    .bind(organization.as_uuid())
    .bind(id.as_uuid())
    .bind(at)
    .execute(tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// What decides about a sign-in.
#[derive(Debug)]
pub(crate) struct SignInRecord {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// The user.
    pub(crate) id: UserId,
    /// What they may do.
    pub(crate) role: Role,
    /// PHC string; none if they don't sign in with a password.
    pub(crate) password_hash: Option<String>,
    /// Whether nothing of theirs works any more.
    pub(crate) disabled: bool,
}

/// Reads what decides about a sign-in. As the service's own role: who signs in has no tenant yet.
pub(crate) async fn find_for_sign_in(tx: &mut PgConnection, email: &Email) -> Result<Option<SignInRecord>, Error> {
    type Found = (Uuid, Uuid, String, Option<String>, bool);
    let row: Option<Found> = sqlx::query_as(
        "select organization_id, id, role, password_hash, disabled_at is not null from auth.users where email_key = $1",
    )
    .bind(email.key())
    .fetch_optional(tx)
    .await?;
    row.map(|(organization, id, role, password_hash, disabled)| {
        let role = Role::from_stored(&role).ok_or_else(|| unreadable("a user's role"))?;
        Ok(SignInRecord { organization: organization.into(), id: id.into(), role, password_hash, disabled })
    })
    .transpose()
}

/// Replaces a password's hash by one of the same password, unless it was changed meanwhile.
pub(crate) async fn rehash(tx: &mut PgConnection, id: UserId, old: &str, new: &str) -> Result<(), Error> {
    sqlx::query("update auth.users set password_hash = $3 where id = $1 and password_hash = $2")
        .bind(id.as_uuid())
        .bind(old)
        .bind(new)
        .execute(tx)
        .await?;
    Ok(())
}
