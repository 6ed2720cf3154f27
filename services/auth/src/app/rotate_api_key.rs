//! Gives an API key a successor.

use std::time::Duration;

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, names};

use super::{Auth, FreshKey};
use crate::domain::{Actor, ApiKey, Invalid, KeySecret, Overlap, Revocation, Subject};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, api_keys, revocations};

impl Auth {
    /// Makes a successor with the same owner and scopes; the old key goes on for the overlap, then it ends, and with it
    /// every token that it was exchanged for.
    ///
    /// A key has one successor. A client that lost the answer is told which one, and rotates that: so a repeated call
    /// neither multiplies keys nor shows a secret twice.
    ///
    /// # Errors
    /// When there is no such key, it has ended, has a successor, or has scopes that the caller lacks.
    pub(crate) async fn rotate_api_key(
        &self,
        actor: &Actor,
        organization: OrganizationId,
        id: ApiKeyId,
        overlap: Overlap,
    ) -> Result<FreshKey> {
        let name = names::api_key(&organization, &id);
        let mut tx = self.database.begin_tenant(organization).await?;
        let mut old =
            api_keys::find_for_update(&mut tx, organization, id).await?.ok_or_else(|| Error::NotFound(name.clone()))?;
        if let Some(successor) = old.rotated_to {
            return Err(Error::AlreadyRotated { successor: names::api_key(&organization, &successor) });
        }
        let now = self.now();
        if old.has_ended(now) {
            return Err(Invalid::field("name", "the key has been revoked or has expired: create a new one").into());
        }
        // The successor's secret is shown to the caller, who could use it.
        actor.may_give(old.scopes)?;

        let key = ApiKey { id: ApiKeyId::new_v7(), created: now, expires: old.successor_expires(now), ..old.clone() };
        let secret = KeySecret::generate(key.id)?;
        api_keys::insert(&mut tx, &key, secret.digest()).await?;

        let end = overlap.end(now, old.expires);
        old.rotated_to = Some(key.id);
        if overlap.is_zero() {
            old.revoked = Some(now);
        } else {
            old.expires = Some(end);
        }
        api_keys::update(&mut tx, &old).await?;
        let successor = names::api_key(&organization, &key.id);
        let entry = Entry {
            organization: Some(organization),
            at: now,
            actor: &actor.describe(),
            action: Action::RotateApiKey,
            target: &name,
            detail: &format!("successor {successor}, the old key ends {}", end.to_rfc3339()),
        };
        audit_log::append(&mut tx, entry).await?;
        if self.tokens_may_outlive(end, now) {
            let make = if overlap.is_zero() { Revocation::at_once } else { Revocation::ahead };
            let revocation = make(organization, Subject::ApiKey(id), end, self.token_lifetime);
            revocations::insert(&mut tx, &revocation).await?;
        }
        storage::commit(tx).await?;
        self.feed.wake();
        Ok(FreshKey { key, secret })
    }

    /// Tokens made from now on end with the key; those made before, or at this moment, may not.
    fn tokens_may_outlive(&self, end: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        const IN_THE_MAKING: Duration = Duration::from_secs(60);
        end < now + self.token_lifetime + IN_THE_MAKING
    }
}
