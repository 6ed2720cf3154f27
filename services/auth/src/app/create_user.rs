//! Creates a user.

use weir_types::{OrganizationId, UserId, names};

use super::Auth;
use crate::domain::{Actor, DisplayName, Email, Password, Role, User};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, users};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct NewUser {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// Their address, unique in the product.
    pub(crate) email: Email,
    /// Their name; may be empty.
    pub(crate) display_name: DisplayName,
    /// What they may do.
    pub(crate) role: Role,
    /// None for who never signs in with a password.
    pub(crate) password: Option<Password>,
}

impl Auth {
    /// Creates a user.
    ///
    /// # Errors
    /// When the caller lacks a scope of the role, there is no such tenant, or the address is taken.
    pub(crate) async fn create_user(&self, actor: &Actor, new: NewUser) -> Result<User> {
        actor.may_give(new.role.scopes())?;
        // Before the transaction: hashing takes long enough to be missed on a connection.
        let hash = match new.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let user = User {
            organization: new.organization,
            id: UserId::new_v7(),
            email: new.email.as_str().to_owned(),
            display_name: new.display_name,
            role: new.role,
            created: self.now(),
            disabled: None,
        };
        let mut tx = self.database.begin_tenant(user.organization).await?;
        Self::organization_must_exist(&mut tx, user.organization).await?;
        users::insert(&mut tx, &user, &new.email, hash.as_deref()).await.map_err(|error| {
            if error.is_conflict(users::EMAIL_CONSTRAINT) { Error::EmailTaken } else { error.into() }
        })?;
        let entry = Entry {
            organization: Some(user.organization),
            at: user.created,
            actor: &actor.describe(),
            action: Action::CreateUser,
            target: &names::user(&user.organization, &user.id),
            detail: user.role.as_str(),
        };
        audit_log::append(&mut tx, entry).await?;
        storage::commit(tx).await?;
        Ok(user)
    }
}
