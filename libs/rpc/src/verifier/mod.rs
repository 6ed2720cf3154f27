//! Who a token stands for.

mod cache;
mod keys;
mod revocations;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::DateTime;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use weir_config::MasterKey;
use weir_proto::common::v1::ErrorReason;
use weir_types::{Clock, ScopeSet};

use crate::token::{
    MAX_TOKEN_LIFETIME, PRINCIPAL_ISSUER, PrincipalClaims, SERVICE_ISSUER, ServiceClaims, service_key, validation,
};
use crate::{Caller, Channel, Error, Principal};
use cache::Cache;
use keys::{KeyError, Keys};
pub use revocations::{Revocations, Revoked};

/// What the clocks of two machines may differ by.
const LEEWAY: i64 = 5;

/// Verifies both kinds of tokens: principal tokens (EdDSA, by auth's keys) and service tokens (HS256, by the deployment's
/// key). A verified token is remembered until it ends, and refused when its key or user is revoked meanwhile.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    auth: Channel,
    clock: Arc<dyn Clock>,
    service_key: DecodingKey,
    service_tokens: Validation,
    principal_tokens: Validation,
    keys: Keys,
    cache: Cache,
    revocations: Revocations,
    /// The time up to which auth has told everything, in seconds since 1970; 0 before it told anything.
    heard: AtomicI64,
}

impl Verifier {
    /// Verifies by the deployment's key and by the keys of the auth service behind `auth`.
    #[must_use]
    pub fn new(master: &MasterKey, auth: Channel, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            keys: Keys::new(auth.clone()),
            auth,
            clock,
            service_key: service_key(master),
            service_tokens: validation(Algorithm::HS256, SERVICE_ISSUER),
            principal_tokens: validation(Algorithm::EdDSA, PRINCIPAL_ISSUER),
            cache: Cache::default(),
            revocations: Revocations::default(),
            heard: AtomicI64::new(0),
        }))
    }

    /// The revocations that this process knows.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// Refuses the key's or the user's tokens from now on.
    pub fn revoke(&self, revoked: Revoked) {
        // First refuse, then forget: a token that is being verified meanwhile is checked again when it is found.
        self.0.revocations.revoke(revoked);
        self.0.cache.evict(|caller| matches!(caller, Caller::Principal(principal) if revoked.concerns(principal)));
    }

    /// How old the knowledge about revocations is; none before the first word from auth.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        let heard = self.0.heard.load(Ordering::Relaxed);
        (heard > 0).then(|| Duration::from_secs((self.0.clock.now().timestamp() - heard).max(0).cast_unsigned()))
    }

    fn heard(&self, time: i64) {
        self.0.heard.fetch_max(time, Ordering::Relaxed);
    }

    /// Who the token stands for, if it was verified before.
    pub(crate) fn known(&self, token: &[u8]) -> Option<Result<Arc<Caller>, Error>> {
        let caller = self.0.cache.get(token, self.0.clock.now().timestamp())?;
        Some(self.not_revoked(caller))
    }

    /// Who the token stands for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `CREDENTIAL_REVOKED`; `UNAVAILABLE` when the token's key is not known and auth does not answer.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, Error> {
        if let Some(known) = self.known(token.as_bytes()) {
            return known;
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("the token is malformed"))?;
        // The header only selects which of the two is tried; each has its own key and accepts its own algorithm.
        let (caller, expires) = match header.kid {
            Some(key) => self.principal(token, &key).await?,
            None => self.service(token)?,
        };
        let caller = Arc::new(caller);
        self.0.cache.insert(token.as_bytes(), expires, Arc::clone(&caller), self.0.clock.now().timestamp());
        self.not_revoked(caller)
    }

    fn not_revoked(&self, caller: Arc<Caller>) -> Result<Arc<Caller>, Error> {
        if let Caller::Principal(principal) = &*caller
            && self.0.revocations.concern(principal)
        {
            return Err(Error::new(ErrorReason::CredentialRevoked, "the credential has been revoked"));
        }
        Ok(caller)
    }

    fn service(&self, token: &str) -> Result<(Caller, i64), Error> {
        let claims: ServiceClaims = decode(token, &self.0.service_key, &self.0.service_tokens)
            .ok_or_else(|| refused("the token is not valid"))?;
        // Signed and checked by machines' clocks: the injected one may stand still in a test.
        check_times(claims.nbf, claims.exp, chrono::Utc::now().timestamp())?;
        Ok((Caller::Service(claims.sub.into()), claims.exp))
    }

    async fn principal(&self, token: &str, key: &str) -> Result<(Caller, i64), Error> {
        let key = match self.0.keys.get(key).await {
            Ok(key) => key,
            Err(KeyError::Unknown) => return Err(refused("the token's key is not known")),
            Err(KeyError::Unreachable(failure)) => {
                return Err(Error::unavailable("auth", failure).retry_after(Duration::from_secs(1)));
            }
        };
        let claims: PrincipalClaims =
            decode(token, &key, &self.0.principal_tokens).ok_or_else(|| refused("the token is not valid"))?;
        check_times(claims.nbf, claims.exp, self.0.clock.now().timestamp())?;
        let expires = claims.exp;
        let principal = read_principal(&claims).ok_or_else(|| refused("the token's claims are malformed"))?;
        Ok((Caller::Principal(principal), expires))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("revocations", &self.0.revocations).finish_non_exhaustive()
    }
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorReason::Unauthenticated, message)
}

fn decode<T: serde::de::DeserializeOwned>(token: &str, key: &DecodingKey, validation: &Validation) -> Option<T> {
    jsonwebtoken::decode::<T>(token, key, validation).ok().map(|data| data.claims)
}

fn check_times(nbf: i64, exp: i64, now: i64) -> Result<(), Error> {
    if exp <= now {
        return Err(refused("the token has expired"));
    }
    if nbf > now + LEEWAY {
        return Err(refused("the token is not valid yet"));
    }
    if exp > now + LEEWAY + MAX_TOKEN_LIFETIME.as_secs().cast_signed() {
        return Err(refused("the token is valid for too long"));
    }
    Ok(())
}

fn read_principal(claims: &PrincipalClaims) -> Option<Principal> {
    Some(Principal {
        organization: claims.org.parse().ok()?,
        user: claims.user.as_deref().map(str::parse).transpose().ok()?,
        api_key: claims.key.as_deref().map(str::parse).transpose().ok()?,
        scopes: ScopeSet::parse(&claims.scope).ok()?,
        token_expires: DateTime::from_timestamp(claims.exp, 0)?,
    })
}
