//! Reads a user.

use weir_types::{OrganizationId, Scope, UserId, names};

use super::Auth;
use crate::domain::{Actor, User};
use crate::error::{Error, Result};
use crate::storage::users;

impl Auth {
    /// Reads a user: anybody themselves, who manages users all of them.
    ///
    /// # Errors
    /// When there is none, or they are not the caller's to see.
    pub(crate) async fn get_user(&self, actor: &Actor, organization: OrganizationId, id: UserId) -> Result<User> {
        let missing = || Error::NotFound(names::user(&organization, &id));
        if !actor.is_user(id) && !actor.scopes().contains(Scope::UsersManage) {
            return Err(missing());
        }
        let mut tx = self.database.begin_tenant(organization).await?;
        users::find(&mut tx, organization, id).await?.ok_or_else(missing)
    }
}
