//! Disables a user.

use weir_types::{OrganizationId, UserId, names};

use super::Auth;
use crate::domain::{Actor, Revocation, Subject, User};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, revocations, users};

impl Auth {
    /// Disables a user: their keys and tokens stop working, their records stay. Disabling twice changes nothing.
    ///
    /// # Errors
    /// When there is no such user.
    pub(crate) async fn disable_user(&self, actor: &Actor, organization: OrganizationId, id: UserId) -> Result<User> {
        let name = names::user(&organization, &id);
        let now = self.now();
        let mut tx = self.database.begin_tenant(organization).await?;
        let disabled = users::disable(&mut tx, organization, id, now).await?;
        let user = users::find(&mut tx, organization, id).await?.ok_or_else(|| Error::NotFound(name.clone()))?;
        if !disabled {
            return Ok(user);
        }
        let entry = Entry {
            organization: Some(organization),
            at: now,
            actor: &actor.describe(),
            action: Action::DisableUser,
            target: &name,
            detail: "",
        };
        audit_log::append(&mut tx, entry).await?;
        let revocation = Revocation::at_once(organization, Subject::User(id), now, self.token_lifetime);
        revocations::insert(&mut tx, &revocation).await?;
        storage::commit(tx).await?;
        self.feed.wake();
        Ok(user)
    }
}
