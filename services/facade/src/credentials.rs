//! Credentials: from what a caller sends to the principal token that the services verify.
//!
//! An API key is exchanged at auth once and its token kept until shortly before it ends, under the
//! hash of the whole credential. When auth is away, known callers go on until their tokens end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tokio::sync::Mutex;
use weir_proto::auth::v1::ExchangeApiKeyRequest;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Bearer, Channel, Error, Failure};
use weir_types::{ApiKeyId, OrganizationId, UserId, names};

/// A token is exchanged anew when it has less than this left.
const AHEAD: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(3);
/// Credentials that are exchanged at the same time wait for each other only within one of these.
const STRIPES: usize = 64;

type Hash = [u8; 32];

/// A caller whose credential has been accepted.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) bearer: Bearer,
    pub(crate) organization: OrganizationId,
    pub(crate) user: Option<UserId>,
    pub(crate) api_key: Option<ApiKeyId>,
    credential: Hash,
    ends: SystemTime,
}

#[derive(Clone)]
enum Known {
    Accepted(Arc<Caller>),
    Refused { failure: Failure, until: SystemTime },
}

/// Exchanges credentials and remembers the answers.
pub(crate) struct Credentials {
    auth: AuthServiceClient<Channel>,
    known: moka::sync::Cache<Hash, Known>,
    exchanging: Vec<Mutex<()>>,
    refused_for: Duration,
}

impl Credentials {
    pub(crate) fn new(auth: AuthServiceClient<Channel>, capacity: u64, refused_for: Duration) -> Self {
        let exchanging = std::iter::repeat_with(Mutex::default).take(STRIPES).collect();
        Self { auth, known: moka::sync::Cache::new(capacity), exchanging, refused_for }
    }

    /// Who sends these headers.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Error> {
        let credential = credential(headers)?;
        let hash = hash(credential);
        let now = SystemTime::now();
        match self.known.get(&hash) {
            Some(Known::Accepted(caller)) if caller.ends > now + AHEAD => Ok(caller),
            Some(Known::Refused { failure, until }) if until > now => Err(failure.into()),
            _ if is_token(credential) => Caller::with_token(credential, hash).map(Arc::new),
            _ => self.exchange(credential, hash).await,
        }
    }

    /// Forgets a caller whose token a service refused.
    pub(crate) fn forget(&self, caller: &Caller) {
        self.known.invalidate(&caller.credential);
    }

    async fn exchange(&self, credential: &str, hash: Hash) -> Result<Arc<Caller>, Error> {
        let _alone = self.exchanging[usize::from(hash[0]) % STRIPES].lock().await;
        let now = SystemTime::now();
        let before = match self.known.get(&hash) {
            Some(Known::Accepted(caller)) if caller.ends > now + AHEAD => return Ok(caller),
            Some(Known::Refused { failure, until }) if until > now => return Err(failure.into()),
            Some(Known::Accepted(caller)) if caller.ends > now => Some(caller),
            _ => None,
        };
        let mut request = tonic::Request::new(ExchangeApiKeyRequest { secret: credential.to_owned() });
        request.set_timeout(DEADLINE);
        let answer = self.auth.clone().exchange_api_key(request).await;
        match answer.map_err(|status| Failure::from(&status)) {
            Ok(token) => {
                let token = token.into_inner();
                let ends = token.expire_time.and_then(|time| SystemTime::try_from(time).ok());
                let bearer = Bearer::new(&token.token)
                    .ok_or_else(|| Error::defect("auth answered a token that is no header"))?;
                let ends = ends.ok_or_else(|| Error::defect("auth answered a token without an end"))?;
                let organization = names::parse_organization(&token.organization).map_err(Error::defect)?;
                let user = names::parse_user(&token.user).ok().map(|(_, user)| user);
                let api_key = names::parse_api_key(&token.api_key).ok().map(|(_, key)| key);
                let caller = Arc::new(Caller { bearer, organization, user, api_key, credential: hash, ends });
                self.known.insert(hash, Known::Accepted(Arc::clone(&caller)));
                Ok(caller)
            }
            Err(failure) if failure.is_transient() => before.ok_or_else(|| failure.into()),
            Err(failure) => {
                let until = SystemTime::now() + self.refused_for;
                self.known.insert(hash, Known::Refused { failure: failure.clone(), until });
                Err(failure.into())
            }
        }
    }
}

impl Caller {
    /// A principal token that the caller brought along. The services verify it; what is read here
    /// without verifying only completes resource names.
    fn with_token(token: &str, credential: Hash) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Claims {
            org: OrganizationId,
            user: Option<UserId>,
            key: Option<ApiKeyId>,
        }
        let payload =
            token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok()).ok_or_else(malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| malformed())?;
        let bearer = Bearer::new(token).ok_or_else(malformed)?;
        let Claims { org, user, key } = claims;
        Ok(Self { bearer, organization: org, user, api_key: key, credential, ends: SystemTime::UNIX_EPOCH })
    }
}

/// The credential: `authorization: Bearer …`, else `x-api-key`.
fn credential(headers: &HeaderMap) -> Result<&str, Error> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| malformed())?;
        let (scheme, credential) = text.split_once(' ').ok_or_else(malformed)?;
        let credential = credential.trim();
        return if scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty() {
            Ok(credential)
        } else {
            Err(malformed())
        };
    }
    match headers.get("x-api-key").map(|value| value.to_str()) {
        Some(Ok(key)) if !key.is_empty() => Ok(key),
        Some(_) => Err(malformed()),
        None => Err(Error::new(
            ErrorReason::Unauthenticated,
            "No API key was sent. Send it as a header: `Authorization: Bearer weir_…`.",
        )),
    }
}

fn malformed() -> Error {
    Error::new(
        ErrorReason::Unauthenticated,
        "The credential is malformed. Send a header `Authorization: Bearer weir_…`.",
    )
}

/// Whether a credential is a token (a compact JWT) rather than an API key.
fn is_token(credential: &str) -> bool {
    credential.starts_with("eyJ") && credential.bytes().filter(|&b| b == b'.').count() == 2
}

fn hash(credential: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, credential.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &'static str, value: &str) -> Result<String, ErrorReason> {
        let headers = HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]);
        credential(&headers).map(str::to_owned).map_err(|error| error.reason())
    }

    #[test]
    fn a_credential_comes_as_a_bearer_or_as_an_api_key() {
        assert_eq!(sent("authorization", "Bearer weir_1"), Ok("weir_1".into()));
        assert_eq!(sent("authorization", "bearer  weir_1"), Ok("weir_1".into()));
        assert_eq!(sent("x-api-key", "weir_1"), Ok("weir_1".into()));
    }

    #[test]
    fn anything_else_is_unauthenticated() {
        for (name, value) in [
            ("authorization", "Basic abc"),
            ("authorization", "weir_1"),
            ("authorization", "Bearer "),
            ("cookie", "a=b"),
        ] {
            assert_eq!(sent(name, value), Err(ErrorReason::Unauthenticated), "{name}: {value}");
        }
    }

    #[test]
    fn a_token_is_told_from_a_key() {
        assert!(is_token("eyJh.eyJz.c2ln") && !is_token("weir_0192_abc") && !is_token("eyJh.eyJz"));
    }
}
