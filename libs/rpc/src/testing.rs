//! A deployment in memory for the tests of the services: its key, an auth that knows its signing keys and revokes, and
//! tokens of anybody. The layers are the real ones.
//!
//! ```ignore
//! let deployment = Deployment::new().await;
//! let quota = deployment.stack("quota", Routes::new(QuotaServiceServer::new(service)), ACCESS).await;
//! // As a service:
//! let mut client = QuotaServiceClient::new(deployment.channel("ai-broker", &quota));
//! // As a principal:
//! let bearer = deployment.principal(organization, Some(user), None, [Scope::QuotaRead]);
//! client.get_balance(bearer.request(GetBalanceRequest { .. })).await
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::broadcast;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, NamedService};
use weir_config::{Loader, MasterKey, Problem, Validate};
use weir_proto::auth::v1::{Revocation, SigningKey, SigningKeys, WatchRevocationsRequest, revocation::Subject};
use weir_proto::codec::Codec;
use weir_types::{ApiKeyId, Clock, OrganizationId, Scope, ScopeSet, SystemClock, UserId, names};

use crate::caller::Admitted;
use crate::{
    AUDIENCE, Access, Bearer, Caller, Channel, Config, LocalSlot, PRINCIPAL_ISSUER, PrincipalClaims, Revoked, Routes,
    ServiceIdentity, Stack, Stacked, Verifier,
};

const ACCESS: &[(&str, Access)] = &[
    ("/weir.auth.v1.AuthService/GetSigningKeys", Access::AnyService),
    ("/weir.auth.v1.AuthService/WatchRevocations", Access::AnyService),
];

/// The defaults of the `[rpc]` section.
///
/// # Panics
/// When the defaults file is broken.
#[must_use]
pub fn config() -> Config {
    #[derive(serde::Deserialize)]
    struct Root {
        rpc: Config,
    }
    impl Validate for Root {
        fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
            self.rpc.validate(at, problems);
        }
    }
    Loader::new().section(crate::DEFAULTS).load::<Root>().expect("the defaults are well-formed").rpc
}

/// A request as it reaches a handler behind the stack, from `caller`: for tests that call a handler directly.
pub fn from_caller<T>(caller: Caller, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(Admitted { caller: Arc::new(caller), deadline: None, stopping: None });
    request
}

/// A deployment in memory.
#[derive(Clone)]
pub struct Deployment {
    master: MasterKey,
    config: Config,
    clock: Arc<dyn Clock>,
    verifier: Verifier,
    auth: LocalSlot,
    keys: Arc<Keys>,
}

struct Keys {
    signing: Mutex<Vec<Key>>,
    asked: AtomicUsize,
    down: AtomicBool,
    revocations: broadcast::Sender<Revocation>,
}

struct Key {
    id: String,
    public: Vec<u8>,
    private: EncodingKey,
}

impl Deployment {
    /// With a new key and a running auth, by the machine's clock.
    pub async fn new() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// By this clock.
    ///
    /// # Panics
    /// Without randomness.
    pub async fn at(clock: Arc<dyn Clock>) -> Self {
        let master = MasterKey::generate().expect("randomness");
        let config = config();
        let auth = LocalSlot::new("auth");
        let identity = ServiceIdentity::new("test", &master);
        let verifier = Verifier::new(&master, Channel::local(auth.clone(), identity, &config), Arc::clone(&clock));
        let keys = Arc::new(Keys {
            signing: Mutex::default(),
            asked: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            revocations: broadcast::Sender::new(64),
        });
        let deployment = Self { master, config, clock, verifier, auth, keys };
        deployment.rotate_signing_key();
        let routes = Routes::new(FakeAuth(Arc::clone(&deployment.keys)));
        let stacked = Stack::new("auth", routes, ACCESS).build(deployment.verifier.clone(), &deployment.config).await;
        deployment.auth.fill(stacked.expect("descriptors"));
        deployment
    }

    /// The deployment's key.
    #[must_use]
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The `[rpc]` section.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the layers verify with.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A service with its layers.
    ///
    /// # Panics
    /// When the descriptors are broken.
    pub async fn stack(
        &self,
        service: &'static str,
        routes: Routes,
        access: &'static [(&'static str, Access)],
    ) -> Stacked {
        Stack::new(service, routes, access).build(self.verifier.clone(), &self.config).await.expect("descriptors")
    }

    /// A way to `service` for the service `caller`.
    #[must_use]
    pub fn channel(&self, caller: &str, service: &Stacked) -> Channel {
        let slot = LocalSlot::new(service.service());
        slot.fill(service.clone());
        Channel::local(slot, ServiceIdentity::new(caller, &self.master), &self.config)
    }

    /// A token of a principal, for five minutes.
    ///
    /// # Panics
    /// Never with claims of this shape.
    pub fn principal(
        &self,
        organization: OrganizationId,
        user: Option<UserId>,
        api_key: Option<ApiKeyId>,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> Bearer {
        let token = self.sign(&self.claims(organization, user, api_key, scopes));
        Bearer::new(&token).expect("a token is a header value")
    }

    /// The claims of such a token, to be bent before they are signed.
    pub fn claims(
        &self,
        organization: OrganizationId,
        user: Option<UserId>,
        api_key: Option<ApiKeyId>,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> PrincipalClaims {
        let now = self.clock.now().timestamp();
        PrincipalClaims {
            iss: PRINCIPAL_ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: names::organization(&organization),
            org: organization.to_string(),
            user: user.map(|user| user.to_string()),
            key: api_key.map(|key| key.to_string()),
            scope: scopes.into_iter().collect::<ScopeSet>().to_string(),
            exp: now + 300,
            nbf: now,
            jti: uuid::Uuid::now_v7().to_string(),
        }
    }

    /// Signs with the newest key.
    ///
    /// # Panics
    /// Never with claims of this shape.
    #[must_use]
    pub fn sign(&self, claims: &PrincipalClaims) -> String {
        let signing = self.keys.signing.lock();
        let key = signing.last().expect("a signing key");
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, claims, &key.private).expect("claims are JSON")
    }

    /// Auth signs with a new key from now on.
    ///
    /// # Panics
    /// Without randomness.
    pub fn rotate_signing_key(&self) {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("randomness");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key that was just made");
        self.keys.signing.lock().push(Key {
            id: uuid::Uuid::now_v7().to_string(),
            public: pair.public_key().as_ref().to_vec(),
            private: EncodingKey::from_ed_der(pkcs8.as_ref()),
        });
    }

    /// How often auth was asked for its keys.
    #[must_use]
    pub fn key_fetches(&self) -> usize {
        self.keys.asked.load(Ordering::Relaxed)
    }

    /// Auth answers, or does not.
    pub fn set_auth_down(&self, down: bool) {
        self.keys.down.store(down, Ordering::Relaxed);
    }

    /// Auth tells its watchers ([`Verifier::follow_revocations`]).
    pub fn publish(&self, revoked: Revoked) {
        let subject = match revoked {
            Revoked::ApiKey(organization, key) => Subject::ApiKey(names::api_key(&organization, &key)),
            Revoked::User(organization, user) => Subject::User(names::user(&organization, &user)),
        };
        let _ = self.keys.revocations.send(self.revocation(subject));
    }

    /// How many follow auth's revocations.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.keys.revocations.receiver_count()
    }

    fn revocation(&self, subject: Subject) -> Revocation {
        let now = self.clock.now();
        Revocation {
            subject: Some(subject),
            revoke_time: Some(prost_types::Timestamp { seconds: now.timestamp(), nanos: 0 }),
        }
    }
}

impl std::fmt::Debug for Deployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployment").finish_non_exhaustive()
    }
}

/// The two methods of auth that every service needs.
#[derive(Clone)]
struct FakeAuth(Arc<Keys>);

impl NamedService for FakeAuth {
    const NAME: &'static str = "weir.auth.v1.AuthService";
}

type Revocations = BoxStream<'static, Result<Revocation, Status>>;

impl FakeAuth {
    fn signing_keys(&self) -> Result<tonic::Response<SigningKeys>, Status> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if self.0.down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("down"));
        }
        let signing = self.0.signing.lock();
        let keys = signing.iter().enumerate().map(|(i, key)| SigningKey {
            key_id: key.id.clone(),
            public_key: key.public.clone().into(),
            current: i + 1 == signing.len(),
        });
        Ok(tonic::Response::new(SigningKeys { keys: keys.collect() }))
    }

    fn revocations(&self) -> Result<tonic::Response<Revocations>, Status> {
        if self.0.down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("down"));
        }
        let receiver = self.0.revocations.subscribe();
        let heartbeat = Revocation { subject: Some(Subject::Heartbeat(())), revoke_time: None };
        let news = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|revocation| (Ok(revocation), receiver))
        });
        Ok(tonic::Response::new(futures::stream::iter([Ok(heartbeat)]).chain(news).boxed()))
    }
}

impl tower::Service<Request<Body>> for FakeAuth {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(if request.uri().path().ends_with("/GetSigningKeys") {
                let answer = tower::service_fn(move |_: tonic::Request<()>| std::future::ready(this.signing_keys()));
                Grpc::new(Codec::<SigningKeys, ()>::default()).unary(answer, request).await
            } else {
                let answer = tower::service_fn(move |_: tonic::Request<WatchRevocationsRequest>| {
                    std::future::ready(this.revocations())
                });
                Grpc::new(Codec::<Revocation, WatchRevocationsRequest>::default())
                    .server_streaming(answer, request)
                    .await
            })
        })
    }
}
