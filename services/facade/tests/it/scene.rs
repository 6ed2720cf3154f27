//! A facade at a socket, its siblings, and a caller with a key.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use weir_config::{Loader, Problem, Validate};
use weir_discovery::{Directory, Static};
use weir_facade::{Config, DEFAULTS};
use weir_host::{Channels, Context};
use weir_proto::auth::v1::{ExchangeApiKeyRequest, PrincipalToken};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, Error, ServiceIdentity, Stacked};
use weir_types::{ApiKeyId, Clock, ManualClock, OrganizationId, Scope, SystemClock, UserId, names};

use crate::fixtures::{ACCESS, EXCHANGE};
use crate::siblings::{Siblings, routes};

/// A key that auth accepts, of a user with every scope.
pub(crate) const KEY: &str = "weir_good";

pub(crate) struct Scene {
    pub(crate) siblings: Arc<Siblings>,
    pub(crate) deployment: Deployment,
    /// The facade's own; the tokens' is the machine's.
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) address: SocketAddr,
    pub(crate) organization: OrganizationId,
    pub(crate) user: UserId,
    pub(crate) api_key: ApiKeyId,
    pub(crate) auth: Arc<Auth>,
    client: reqwest::Client,
    server: JoinHandle<()>,
    _behind: JoinSet<()>,
}

/// How auth exchanges keys. Those that begin with [`KEY`] are good.
#[derive(Default)]
pub(crate) struct Auth {
    pub(crate) is_down: AtomicBool,
    pub(crate) takes_millis: AtomicU64,
    /// Answers nothing until this is taken back.
    pub(crate) is_held: AtomicBool,
}

#[derive(Deserialize)]
struct Root {
    facade: Config,
}

impl Validate for Root {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        self.facade.validate(at, problems);
    }
}

pub(crate) fn config(settings: &str) -> Config {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    write!(file, "[facade]\n{settings}\n").unwrap();
    Loader::new().section(DEFAULTS).file(Some(file.path().to_owned())).load::<Root>().unwrap().facade
}

/// A sibling behind a socket: what the doubles read and write are bytes, which within a process messages are not.
async fn serve(sibling: Stacked, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let sibling = sibling.clone();
            connections.spawn(async move {
                let handler = service_fn(move |request: Request<Incoming>| {
                    let answer = sibling.handle(request.map(tonic::body::Body::new));
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection = auto::Builder::new(TokioExecutor::new()).http2_only();
                let _ = connection.serve_connection(TokioIo::new(stream), handler).await;
            });
        }
    });
    address
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With `settings` in the section `[facade]`.
    pub(crate) async fn with(settings: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let deployment = Deployment::new().await;
        let siblings = Arc::new(Siblings::default());
        let (mut channels, mut behind) = (Vec::new(), JoinSet::new());
        for (name, routes) in routes(&siblings) {
            let address = serve(deployment.stack(name, routes, ACCESS).await, &mut behind).await;
            let directory: Arc<dyn Directory> = Arc::new(Static::default().with(name, [address.into()]));
            let identity = ServiceIdentity::new("facade", deployment.master());
            channels.push((name, Channel::remote(&directory, name, identity, deployment.config())));
        }
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let context = Context {
            clock: clock.clone(),
            channels: Channels::fixed(channels),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            master: deployment.master().clone(),
            instance: "test".into(),
            max_message_bytes: 32 << 20,
            revocations: deployment.verifier().revocations().clone(),
        };
        let service = weir_facade::start(config(settings), &context).await.unwrap();
        let (address, server) = listen(service.into_http().unwrap()).await;
        let scene = Self {
            siblings,
            deployment,
            clock,
            address,
            organization: OrganizationId::new_v7(),
            user: UserId::new_v7(),
            api_key: ApiKeyId::new_v7(),
            auth: Arc::default(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap(),
            server,
            _behind: behind,
        };
        scene.exchange_keys(&Scope::ALL);
        scene
    }

    /// Auth gives these scopes from now on.
    pub(crate) fn exchange_keys(&self, scopes: &[Scope]) {
        let (deployment, auth, scopes) = (self.deployment.clone(), Arc::clone(&self.auth), scopes.to_vec());
        let (organization, user, key) = (self.organization, self.user, self.api_key);
        let clock = Arc::clone(&self.clock);
        self.siblings.on(EXCHANGE, move |request: ExchangeApiKeyRequest| {
            let claims = deployment.claims(organization, Some(user), Some(key), scopes.iter().copied());
            let token = deployment.sign(&claims);
            let (auth, clock) = (Arc::clone(&auth), Arc::clone(&clock));
            async move {
                tokio::time::sleep(Duration::from_millis(auth.takes_millis.load(Ordering::Relaxed))).await;
                while auth.is_held.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                if auth.is_down.load(Ordering::Relaxed) {
                    return Err(Error::unavailable("auth", "down"));
                }
                if !request.secret.starts_with(KEY) {
                    return Err(Error::new(ErrorReason::Unauthenticated, "the API key is not valid"));
                }
                let ends = clock.now() + Duration::from_secs(300);
                Ok(PrincipalToken {
                    token,
                    expire_time: Some(prost_types::Timestamp { seconds: ends.timestamp(), nanos: 0 }),
                    organization: names::organization(&organization),
                    user: names::user(&organization, &user),
                    api_key: names::api_key(&organization, &key),
                    scopes: Vec::new(),
                })
            }
        });
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request without a credential.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", path).bearer_auth(KEY)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.request("POST", path).bearer_auth(KEY).json(body)
    }

    pub(crate) async fn eventually(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// As the host listens.
async fn listen(router: axum::Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, peer)) = listener.accept().await {
            let router = router.clone();
            let handler = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                router.clone().call(request)
            });
            connections.spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), handler).await;
            });
        }
    });
    (address, server)
}
