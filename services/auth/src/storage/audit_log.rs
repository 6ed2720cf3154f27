//! `auth.audit_log`: who did what, written in the transaction that does it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// An organisation was created.
    CreateOrganization,
    /// A user was created.
    CreateUser,
    /// A user was disabled.
    DisableUser,
    /// An API key was created.
    CreateApiKey,
    /// An API key got a successor.
    RotateApiKey,
    /// An API key was revoked.
    RevokeApiKey,
    /// Somebody failed to sign in.
    FailSignIn,
    /// Another signing key became current.
    RotateSigningKey,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CreateOrganization => "organization.create",
            Self::CreateUser => "user.create",
            Self::DisableUser => "user.disable",
            Self::CreateApiKey => "api_key.create",
            Self::RotateApiKey => "api_key.rotate",
            Self::RevokeApiKey => "api_key.revoke",
            Self::FailSignIn => "sign_in.fail",
            Self::RotateSigningKey => "signing_key.rotate",
        }
    }
}

/// One line of the log. Never a secret, and never what somebody typed in vain: people type passwords everywhere.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The tenant, where one is concerned.
    pub(crate) organization: Option<OrganizationId>,
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// Who, as `Actor::describe` says it.
    pub(crate) actor: &'a str,
    /// What.
    pub(crate) action: Action,
    /// To which resource, by name; may be empty.
    pub(crate) target: &'a str,
    /// What else is worth knowing; may be empty.
    pub(crate) detail: &'a str,
}

/// Adds a line.
pub(crate) async fn append(tx: &mut PgConnection, entry: Entry<'_>) -> Result<(), Error> {
    sqlx::query(
        "insert into auth.audit_log (organization_id, at, actor, action, target, detail)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(entry.organization.map(Uuid::from))
    .bind(entry.at)
    .bind(entry.actor)
    .bind(entry.action.as_str())
    .bind(entry.target)
    .bind(entry.detail)
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes lines from before `time`.
pub(crate) async fn delete_before(tx: &mut PgConnection, time: DateTime<Utc>) -> Result<u64, Error> {
    Ok(sqlx::query("delete from auth.audit_log where at < $1").bind(time).execute(tx).await?.rows_affected())
}
