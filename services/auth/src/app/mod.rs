//! The use cases, one file each. They decide, and leave storing to `storage` and transport to `grpc`.

mod create_api_key;
mod create_organization;
mod create_user;
mod disable_user;
mod exchange_api_key;
mod get_api_key;
mod get_organization;
mod get_user;
mod list_api_keys;
mod list_organizations;
mod list_users;
mod page;
mod revoke_api_key;
mod rotate_api_key;
mod sign_in;
mod signing_keys;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weir_database::Database;
use weir_types::{Clock, OrganizationId, ScopeSet, UserId, names};

pub(crate) use create_api_key::NewApiKey;
pub(crate) use create_organization::NewOrganization;
pub(crate) use create_user::NewUser;
pub(crate) use page::{Page, PageRequest};

use crate::domain::{self, ApiKey, Claims, KeySecret, PrincipalToken, Refusal};
use crate::error::{Error, Result};
use crate::passwords::Passwords;
use crate::revocation_feed::RevocationFeed;
use crate::signing_ring::SigningRing;
use crate::storage::organizations;

/// What the use cases work with.
pub(crate) struct Auth {
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) token_lifetime: Duration,
    pub(crate) ring: Arc<SigningRing>,
    pub(crate) passwords: Passwords,
    pub(crate) feed: Arc<RevocationFeed>,
}

/// A key and its text, which is shown this once.
#[derive(Debug)]
pub(crate) struct FreshKey {
    /// The key.
    pub(crate) key: ApiKey,
    /// Its text.
    pub(crate) secret: KeySecret,
}

impl Auth {
    /// Now, as the database keeps it.
    fn now(&self) -> DateTime<Utc> {
        domain::stored(self.clock.now())
    }

    async fn organization_must_exist(tx: &mut PgConnection, id: OrganizationId) -> Result<()> {
        match organizations::find(tx, id).await? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(names::organization(&id))),
        }
    }

    /// Makes a token that ends with its credential, if that ends first.
    async fn sign(&self, subject: TokenSubject, now: DateTime<Utc>) -> Result<PrincipalToken> {
        let expires = Claims::end(now, self.token_lifetime, subject.credential_ends);
        if expires <= now {
            // The rest of the credential's last second is too short for a token.
            return Err(Error::Refused(Refusal::Expired));
        }
        let claims = Claims {
            organization: subject.organization,
            user: subject.user,
            api_key: subject.api_key,
            scopes: subject.scopes,
            issued: now,
            expires,
        };
        let key = self.ring.signer().await?;
        claims.sign(&key).map_err(|error| Error::Bug(format!("a token's claims: {error}")))
    }
}

/// Whom a token is for.
struct TokenSubject {
    organization: OrganizationId,
    user: Option<UserId>,
    api_key: Option<weir_types::ApiKeyId>,
    scopes: ScopeSet,
    credential_ends: Option<DateTime<Utc>>,
}
