//! Reads an API key.

use weir_types::{ApiKeyId, OrganizationId, Scope, names};

use super::Auth;
use crate::domain::{Actor, ApiKey};
use crate::error::{Error, Result};
use crate::storage::api_keys;

impl Auth {
    /// Reads a key: a key itself, who manages keys all of them.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub(crate) async fn get_api_key(
        &self,
        actor: &Actor,
        organization: OrganizationId,
        id: ApiKeyId,
    ) -> Result<ApiKey> {
        let missing = || Error::NotFound(names::api_key(&organization, &id));
        if !actor.is_api_key(id) && !actor.scopes().contains(Scope::KeysManage) {
            return Err(missing());
        }
        let mut tx = self.database.begin_tenant(organization).await?;
        api_keys::find(&mut tx, organization, id).await?.ok_or_else(missing)
    }
}
