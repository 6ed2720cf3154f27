//! Revokes an API key.

use weir_types::{ApiKeyId, OrganizationId, names};

use super::Auth;
use crate::domain::{Actor, ApiKey, Revocation, Subject};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, api_keys, revocations};

impl Auth {
    /// Revokes a key. Revoking twice changes nothing.
    ///
    /// # Errors
    /// When there is no such key.
    pub(crate) async fn revoke_api_key(
        &self,
        actor: &Actor,
        organization: OrganizationId,
        id: ApiKeyId,
    ) -> Result<ApiKey> {
        let name = names::api_key(&organization, &id);
        let mut tx = self.database.begin_tenant(organization).await?;
        let mut key =
            api_keys::find_for_update(&mut tx, organization, id).await?.ok_or_else(|| Error::NotFound(name.clone()))?;
        if key.revoked.is_some() {
            return Ok(key);
        }
        let now = self.now();
        key.revoked = Some(now);
        api_keys::update(&mut tx, &key).await?;
        let entry = Entry {
            organization: Some(organization),
            at: now,
            actor: &actor.describe(),
            action: Action::RevokeApiKey,
            target: &name,
            detail: "",
        };
        audit_log::append(&mut tx, entry).await?;
        let revocation = Revocation::at_once(organization, Subject::ApiKey(id), now, self.token_lifetime);
        revocations::insert(&mut tx, &revocation).await?;
        storage::commit(tx).await?;
        self.feed.wake();
        Ok(key)
    }
}
