//! The two kinds of tokens: how they are signed and what they say.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weir_config::MasterKey;

/// `aud` of every token.
pub const AUDIENCE: &str = "weir";
/// `iss` of principal tokens.
pub const PRINCIPAL_ISSUER: &str = "weir";
/// `iss` of service tokens.
pub const SERVICE_ISSUER: &str = "weir-service";
/// No token is accepted that ends later than this from now: it bounds how long a revocation has to be remembered.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

const SERVICE_TOKEN_LIFETIME: Duration = Duration::from_secs(300);
const RENEW_BEFORE: Duration = Duration::from_secs(90);

/// The claims of a principal token (EdDSA, `kid` in the header), as auth signs them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrincipalClaims {
    /// [`PRINCIPAL_ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The user's or the key's resource name.
    pub sub: String,
    /// The organisation's id.
    pub org: String,
    /// The user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The API key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Scopes with spaces between.
    pub scope: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// From when it is valid.
    pub nbf: i64,
    /// The token's own id.
    pub jti: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceClaims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: String,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
}

fn service_secret(master: &MasterKey) -> [u8; 32] {
    master.derive("service-tokens")
}

pub(crate) fn service_key(master: &MasterKey) -> DecodingKey {
    DecodingKey::from_secret(&service_secret(master))
}

/// What a token must say. The algorithm is pinned by the kind of key, never taken from the token; times are checked by
/// the caller against the injected clock.
pub(crate) fn validation(algorithm: Algorithm, issuer: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation
}

/// A service's own identity: signs the token that its calls carry, and renews it before it ends.
#[derive(Clone)]
pub struct ServiceIdentity(Arc<Identity>);

struct Identity {
    name: String,
    key: EncodingKey,
    current: ArcSwap<Rendered>,
}

/// A token as the header that is sent.
struct Rendered {
    header: HeaderValue,
    renew_at: Instant,
}

impl ServiceIdentity {
    /// The identity of the service `name` in the deployment of this key.
    #[must_use]
    pub fn new(name: &str, master: &MasterKey) -> Self {
        let key = EncodingKey::from_secret(&service_secret(master));
        let current = ArcSwap::from_pointee(render(name, &key));
        Self(Arc::new(Identity { name: name.to_owned(), key, current }))
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// `Bearer …`, valid for at least another minute.
    pub(crate) fn authorization(&self) -> HeaderValue {
        let current = self.0.current.load();
        if Instant::now() < current.renew_at {
            return current.header.clone();
        }
        // Several callers may do this at once; each of the tokens is good.
        let rendered = render(&self.0.name, &self.0.key);
        let header = rendered.header.clone();
        self.0.current.store(Arc::new(rendered));
        header
    }
}

impl std::fmt::Debug for ServiceIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServiceIdentity").field(&self.0.name).finish()
    }
}

fn render(name: &str, key: &EncodingKey) -> Rendered {
    let now = chrono::Utc::now().timestamp();
    let claims = ServiceClaims {
        iss: SERVICE_ISSUER.to_owned(),
        sub: name.to_owned(),
        aud: AUDIENCE.to_owned(),
        nbf: now,
        exp: now + SERVICE_TOKEN_LIFETIME.as_secs().cast_signed(),
    };
    let header = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key)
        .ok()
        .and_then(|token| bearer(&token))
        // Unreachable with a 32 byte secret; the peer refuses an empty token.
        .unwrap_or_else(|| HeaderValue::from_static("Bearer"));
    Rendered { header, renew_at: Instant::now() + (SERVICE_TOKEN_LIFETIME - RENEW_BEFORE) }
}

/// `Bearer {token}` as a header that no log prints.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A principal token, rendered once, for calls on a principal's behalf.
#[derive(Clone)]
pub struct Bearer(tonic::metadata::AsciiMetadataValue);

impl Bearer {
    /// From a compact JWT; none if it has characters that no token has.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let mut value: tonic::metadata::AsciiMetadataValue = format!("Bearer {token}").parse().ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// Makes `request` a call on the principal's behalf: the channel then leaves out the service's own token.
    pub fn authorize<T>(&self, request: &mut tonic::Request<T>) {
        request.metadata_mut().insert("authorization", self.0.clone());
    }

    /// `message` as a call on the principal's behalf.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        self.authorize(&mut request);
        request
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer([redacted])")
    }
}
