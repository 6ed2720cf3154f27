//! Principal tokens: JWTs (RFC 7519) signed with EdDSA (RFC 8037).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;
use weir_types::{ApiKeyId, OrganizationId, ScopeSet, UserId, names};

use super::SigningKey;

/// Clocks differ: a verifier whose clock is this much behind still takes a fresh token.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(30);

/// Whom a token stands for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// The user, unless it is for a key of the organisation itself.
    pub(crate) user: Option<UserId>,
    /// The key that it was exchanged for, unless somebody signed in.
    pub(crate) api_key: Option<ApiKeyId>,
    /// What it allows.
    pub(crate) scopes: ScopeSet,
    /// When it is made.
    pub(crate) issued: DateTime<Utc>,
    /// When it ends; whole seconds.
    pub(crate) expires: DateTime<Utc>,
}

/// A token and what it says.
#[derive(Debug, Clone)]
pub(crate) struct PrincipalToken {
    /// The compact serialisation.
    pub(crate) text: String,
    /// What it says.
    pub(crate) claims: Claims,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: String,
    org: &'a OrganizationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a ApiKeyId>,
    scope: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

impl Claims {
    /// When a token that is made now ends: after `lifetime`, or with its credential if that is earlier.
    ///
    /// Whole seconds, rounded down, because `exp` is; never later than the credential.
    #[must_use]
    pub(crate) fn end(now: DateTime<Utc>, lifetime: Duration, credential_ends: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let end = now + lifetime;
        credential_ends.map_or(end, |credential| credential.min(end)).trunc_subsecs(0)
    }

    /// The signed token.
    ///
    /// # Errors
    /// None that can happen: the claims are plain text and numbers.
    pub(crate) fn sign(self, key: &SigningKey) -> Result<PrincipalToken, serde_json::Error> {
        let header = Header { alg: "EdDSA", typ: "JWT", kid: key.id() };
        let payload = Payload {
            iss: "weir",
            aud: "weir",
            sub: self.subject(),
            org: &self.organization,
            user: self.user.as_ref(),
            key: self.api_key.as_ref(),
            scope: self.scopes.to_string(),
            iat: self.issued.timestamp(),
            nbf: (self.issued - CLOCK_SKEW).timestamp(),
            exp: self.expires.timestamp(),
            jti: Uuid::new_v4(),
        };
        let mut text = String::with_capacity(640);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&header)?, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&payload)?, &mut text);
        let signature = key.sign(text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(PrincipalToken { text, claims: self })
    }

    /// Who acts: the user if there is one, else the key.
    fn subject(&self) -> String {
        match (self.user, self.api_key) {
            (Some(user), _) => names::user(&self.organization, &user),
            (None, Some(key)) => names::api_key(&self.organization, &key),
            (None, None) => names::organization(&self.organization),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};
    use weir_types::Scope;

    use super::*;

    fn claims() -> Claims {
        let now = Utc::now();
        Claims {
            organization: OrganizationId::new_v7(),
            user: None,
            api_key: Some(ApiKeyId::new_v7()),
            scopes: [Scope::AiInvoke, Scope::ModelsRead].into_iter().collect(),
            issued: now,
            expires: Claims::end(now, Duration::from_secs(300), None),
        }
    }

    #[test]
    fn a_token_is_a_jwt_that_the_public_key_verifies() {
        let (key, _) = SigningKey::generate().expect("random numbers");
        let token = claims().sign(&key).expect("signed");
        let (message, signature) = token.text.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        UnparsedPublicKey::new(&ED25519, key.public()).verify(message.as_bytes(), &signature).expect("verifies");

        let (header, payload) = message.split_once('.').expect("three parts");
        let read = |part| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
        };
        assert_eq!(read(header)["kid"], key.id());
        let payload = read(payload);
        assert_eq!(payload["iss"], "weir");
        assert_eq!(payload["scope"], "ai.invoke models.read");
        assert_eq!(payload["org"], token.claims.organization.to_string());
        let key = token.claims.api_key.expect("it is a key's");
        assert_eq!(payload["key"], key.to_string());
        assert_eq!(payload["sub"], names::api_key(&token.claims.organization, &key));
        assert!(payload.get("user").is_none());
        assert_eq!(payload["exp"], token.claims.expires.timestamp());
    }

    #[test]
    fn a_token_never_outlives_its_credential() {
        let now = Utc::now();
        let lifetime = Duration::from_secs(300);
        assert_eq!(Claims::end(now, lifetime, None), (now + lifetime).trunc_subsecs(0));
        let soon = now + TimeDelta::milliseconds(2_500);
        assert!(Claims::end(now, lifetime, Some(soon)) <= soon);
    }
}
