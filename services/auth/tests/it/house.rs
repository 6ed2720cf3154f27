//! A deployment of auth alone: a database, one replica or several, and clients of any identity.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};
use weir_config::MasterKey;
use weir_database::{Database, migrate, service_url};
use weir_host::{Channels, Context};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::auth::v1::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, CreateOrganizationRequest, CreateUserRequest,
    ExchangeApiKeyRequest, Organization, PrincipalToken, Role, SignInRequest, User,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Bearer, Channel, Failure, LocalSlot, Revocations, ServiceIdentity, Stack, Verifier};
use weir_testing::{PostgresServer, TestDatabase};
use weir_types::{ManualClock, OrganizationId, names};

pub(crate) type Client = AuthServiceClient<Channel>;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// One key for all tests: roles and their passwords belong to the server that the tests share.
pub(crate) fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

#[derive(Deserialize)]
pub(crate) struct Settings {
    pub(crate) auth: weir_auth::Config,
    database: weir_database::Config,
    rpc: weir_rpc::Config,
}

/// The defaults, but for passwords: tests run without optimisation.
pub(crate) fn settings() -> Settings {
    let text = [weir_auth::DEFAULTS, weir_database::DEFAULTS, weir_rpc::DEFAULTS].concat();
    let mut settings: Settings = toml::from_str(&text).unwrap();
    settings.auth.passwords.memory_kib = 64;
    settings.auth.passwords.iterations = 1;
    settings
}

/// A database and the time, which all replicas share.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    url: String,
    /// Dropped with the house, unless the database is on a server of the test's own.
    _database: Option<TestDatabase>,
}

impl House {
    pub(crate) async fn new() -> Self {
        let database = weir_testing::database("auth", async |url| {
            Ok(migrate(&url.into(), &master(), &[weir_auth::MIGRATION]).await?)
        })
        .await
        .unwrap();
        let url = database.url.clone();
        Self { clock: Arc::new(ManualClock::new(Utc::now())), url, _database: Some(database) }
    }

    /// On a server of the test's own.
    pub(crate) async fn at(server: &PostgresServer) -> Self {
        let url = server.url().to_owned();
        migrate(&url.as_str().into(), &master(), &[weir_auth::MIGRATION]).await.unwrap();
        Self { clock: Arc::new(ManualClock::new(Utc::now())), url, _database: None }
    }

    /// A house with one replica.
    pub(crate) async fn with_replica() -> (Self, Replica) {
        let house = Self::new().await;
        let replica = house.replica(settings()).await;
        (house, replica)
    }

    /// A pool under auth's own role.
    pub(crate) async fn database(&self) -> Database {
        let mut config = settings().database;
        config.url = service_url(&self.url.as_str().into(), &master(), "auth");
        config.min_connections = 0;
        Database::connect(&config, "auth").await.unwrap()
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            clock: self.clock.clone(),
            channels: Channels::fixed([]),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            master: master(),
            instance: "test".into(),
            max_message_bytes: 1 << 20,
            revocations: Revocations::default(),
        }
    }

    /// Another replica.
    pub(crate) async fn replica(&self, settings: Settings) -> Replica {
        let context = self.context();
        let routes = weir_auth::routes(settings.auth, self.database().await, &context).await.unwrap();
        let slot = LocalSlot::new("auth");
        let own = Channel::local(slot.clone(), ServiceIdentity::new("auth", &master()), &settings.rpc);
        let verifier = Verifier::new(&master(), own, self.clock.clone());
        let stack = Stack::new("auth", routes, weir_auth::ACCESS);
        slot.fill(stack.build(verifier.clone(), &settings.rpc).await.unwrap());
        let until = context.shutdown.clone();
        context.tasks.spawn(async move { verifier.follow_revocations(until).await });
        Replica { slot, rpc: settings.rpc, context }
    }
}

/// A running auth service.
pub(crate) struct Replica {
    slot: LocalSlot,
    rpc: weir_rpc::Config,
    context: Context,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

impl Replica {
    /// A client that calls as this service.
    pub(crate) fn service(&self, name: &str) -> Client {
        let identity = ServiceIdentity::new(name, &master());
        AuthServiceClient::new(Channel::local(self.slot.clone(), identity, &self.rpc))
    }

    pub(crate) fn operator(&self) -> Client {
        self.service("operator")
    }

    /// Stops it and waits until nothing of it is at work.
    pub(crate) async fn stop(&self) {
        self.context.shutdown.cancel();
        self.context.tasks.close();
        tokio::time::timeout(Duration::from_secs(60), self.context.tasks.wait()).await.unwrap();
    }

    pub(crate) async fn organization(&self) -> Organization {
        let request = CreateOrganizationRequest { display_name: "Analytical Engines".into(), ..Default::default() };
        self.operator().create_organization(request).await.unwrap().into_inner()
    }

    pub(crate) async fn user(&self, organization: &Organization, email: &str, role: Role) -> User {
        let request = CreateUserRequest {
            parent: organization.name.clone(),
            email: email.into(),
            display_name: "Ada".into(),
            role: role.into(),
            password: PASSWORD.into(),
        };
        self.operator().create_user(request).await.unwrap().into_inner()
    }

    pub(crate) async fn key(&self, organization: &Organization, scopes: &[&str]) -> CreateApiKeyResponse {
        self.operator().create_api_key(new_key(organization, scopes)).await.unwrap().into_inner()
    }

    pub(crate) async fn exchange(&self, secret: &str) -> Result<PrincipalToken, Failure> {
        let request = ExchangeApiKeyRequest { secret: secret.into() };
        open(self.service("facade").exchange_api_key(request).await)
    }

    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Result<PrincipalToken, Failure> {
        let request = SignInRequest { email: email.into(), password: password.into() };
        open(self.service("facade").sign_in(request).await)
    }

    /// What makes requests in the name of a new key of the organisation.
    pub(crate) async fn principal(&self, organization: &Organization, scopes: &[&str]) -> Bearer {
        let secret = self.key(organization, scopes).await.secret;
        bearer(&self.exchange(&secret).await.unwrap())
    }
}

pub(crate) fn new_key(organization: &Organization, scopes: &[&str]) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        parent: organization.name.clone(),
        display_name: "deploy".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) fn bearer(token: &PrincipalToken) -> Bearer {
    Bearer::new(&token.token).unwrap()
}

pub(crate) fn open<T>(answer: Result<Response<T>, Status>) -> Result<T, Failure> {
    answer.map(Response::into_inner).map_err(Failure::from)
}

pub(crate) fn id_of(organization: &Organization) -> OrganizationId {
    names::parse_organization(&organization.name).unwrap()
}

pub(crate) fn key_of(response: &CreateApiKeyResponse) -> ApiKey {
    response.api_key.clone().unwrap()
}

/// The names of the fields that were refused.
pub(crate) fn fields(failure: &Failure) -> Vec<&str> {
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument, "{failure}");
    failure.fields().iter().map(|field| field.subject.as_str()).collect()
}

/// A request in the name of a principal.
pub(crate) fn by<T>(bearer: &Bearer, message: T) -> Request<T> {
    bearer.request(message)
}
