//! Exchanges an API key for a principal token.

use super::{Auth, TokenSubject};
use crate::domain::{KeySecret, PrincipalToken, Refusal, SecretDigest};
use crate::error::{Error, Result};
use crate::storage::api_keys;

impl Auth {
    /// Exchanges an API key for a principal token. One query, nothing is written: callers ask whenever their caches are cold.
    ///
    /// # Errors
    /// When the key is not good.
    pub(crate) async fn exchange_api_key(&self, secret: String) -> Result<PrincipalToken> {
        let result = self.exchange(secret).await;
        let outcome = match &result {
            Ok(_) => "accepted",
            Err(Error::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        metrics::counter!("weir_auth_exchanges_total", "outcome" => outcome).increment(1);
        result
    }

    async fn exchange(&self, secret: String) -> Result<PrincipalToken> {
        // The form of a key is no secret, so saying no at once tells nothing.
        let secret = KeySecret::parse(secret).map_err(|_| Error::Refused(Refusal::Unknown))?;
        let digest = secret.digest();
        let standing = {
            let mut tx = self.database.begin().await?;
            api_keys::standing(&mut tx, secret.id()).await?
        };
        let Some(standing) = standing else {
            // The comparison that a known id would have had.
            let _ = digest.matches(SecretDigest::OF_NOTHING.as_bytes());
            return Err(Error::Refused(Refusal::Unknown));
        };
        let now = self.clock.now();
        let scopes = standing.accept(digest, now).map_err(Error::Refused)?;
        let subject = TokenSubject {
            organization: standing.organization,
            user: standing.user,
            api_key: Some(secret.id()),
            scopes,
            credential_ends: standing.expires,
        };
        self.sign(subject, now).await
    }
}
