//! Creates an API key.

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, ScopeSet, UserId, names};

use super::{Auth, FreshKey};
use crate::domain::{Actor, ApiKey, DisplayName, Invalid, KeySecret, stored};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, api_keys, users};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct NewApiKey {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// The name for people; may be empty.
    pub(crate) display_name: DisplayName,
    /// Whom it acts for; nobody for a key of the organisation itself.
    pub(crate) user: Option<UserId>,
    /// What it may do; at least one.
    pub(crate) scopes: ScopeSet,
    /// When it ends, if ever.
    pub(crate) expires: Option<DateTime<Utc>>,
}

impl Auth {
    /// Creates a key.
    ///
    /// # Errors
    /// When the caller lacks one of its scopes, its user isn't there or may not do so much, or it would have ended already.
    pub(crate) async fn create_api_key(&self, actor: &Actor, new: NewApiKey) -> Result<FreshKey> {
        let now = self.now();
        if new.scopes.is_empty() {
            return Err(Invalid::field("scopes", "at least one is needed").into());
        }
        let expires = new.expires.map(stored);
        if expires.is_some_and(|end| end <= now) {
            return Err(Invalid::field("expire_time", "must be in the future").into());
        }
        actor.may_give(new.scopes)?;
        let key = ApiKey {
            organization: new.organization,
            id: ApiKeyId::new_v7(),
            display_name: new.display_name,
            user: new.user,
            scopes: new.scopes,
            created: now,
            expires,
            revoked: None,
            rotated_to: None,
        };
        let secret = KeySecret::generate(key.id)?;
        let mut tx = self.database.begin_tenant(key.organization).await?;
        Self::organization_must_exist(&mut tx, key.organization).await?;
        if let Some(id) = key.user {
            let owner = users::find(&mut tx, key.organization, id)
                .await?
                .ok_or_else(|| Error::NotFound(names::user(&key.organization, &id)))?;
            if owner.disabled.is_some() {
                return Err(Invalid::field("user", "is disabled").into());
            }
            if let Some(scope) = key.scopes.iter().find(|&scope| !owner.role.scopes().contains(scope)) {
                return Err(Invalid::beyond_role(scope).into());
            }
        }
        api_keys::insert(&mut tx, &key, secret.digest()).await?;
        let entry = Entry {
            organization: Some(key.organization),
            at: now,
            actor: &actor.describe(),
            action: Action::CreateApiKey,
            target: &names::api_key(&key.organization, &key.id),
            detail: &key.scopes.to_string(),
        };
        audit_log::append(&mut tx, entry).await?;
        storage::commit(tx).await?;
        Ok(FreshKey { key, secret })
    }
}
