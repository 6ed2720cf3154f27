//! A deployment of quota: two stores, a billing, and any number of engines.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::MasterKey;
use weir_database::{Database, migrate, service_url};
use weir_host::{Channels, Context};
use weir_proto::billing::v1::Limit;
use weir_proto::billing::v1::billing_service_server::BillingServiceServer;
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::*;
use weir_quota::storage::Store;
use weir_quota::storage::memory::Store as MemoryStore;
use weir_quota::storage::store::Contents;
use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, Failure, Revocations, Routes, Stack, Stacked};
use weir_testing::{PostgresServer, RedisCluster, RedisServer, TestDatabase};
use weir_types::{Clock, OrganizationId, ReservationId, SystemClock, names};

use crate::billing::{self, Billing};

pub(crate) type Client = QuotaServiceClient<Channel>;

/// One key for all tests: roles and their passwords belong to the server that the tests share.
pub(crate) fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

#[derive(Deserialize)]
pub(crate) struct Settings {
    pub(crate) quota: weir_quota::Config,
    pub(crate) database: weir_database::Config,
    pub(crate) redis: weir_redis::Config,
    /// Of the layers, instead of theirs.
    #[serde(skip)]
    pub(crate) max_in_flight: Option<usize>,
}

/// The defaults, but for patience: tests share few cores.
pub(crate) fn settings() -> Settings {
    let text = [weir_quota::DEFAULTS, weir_database::DEFAULTS, weir_redis::DEFAULTS].concat();
    let mut settings: Settings = toml::from_str(&text).unwrap();
    settings.redis.deadline = Duration::from_secs(2);
    settings.quota.rebuild.check_every = Duration::from_millis(50);
    settings.quota.rebuild.window = Duration::from_secs(1);
    settings.quota.slices.lease = Duration::from_secs(1);
    settings.quota.slices.wait = Duration::from_secs(10);
    settings.database.min_connections = 0;
    settings
}

/// Which fast store the engines of a house share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Memory,
}

impl Kind {
    /// The suites run over each store: those that stand in `memory` as well run over that one there.
    fn of_this_test() -> Self {
        let in_memory = std::thread::current().name().is_some_and(|name| name.starts_with("memory::"));
        if in_memory { Self::Memory } else { Self::Redis }
    }
}

/// The house's Redis, if it has one.
pub(crate) struct Server(Option<RedisServer>);

impl Deref for Server {
    type Target = RedisServer;

    fn deref(&self) -> &RedisServer {
        self.0.as_ref().expect("what is about Redis itself runs over Redis")
    }
}

pub(crate) struct House {
    pub(crate) redis: Server,
    /// It outlives the engines, as Redis does, and stands for that of the one process that may have one.
    memory: MemoryStore,
    kind: Kind,
    /// Instead of `redis`.
    pub(crate) cluster: Option<RedisCluster>,
    pub(crate) url: String,
    pub(crate) billing: Arc<Billing>,
    deployment: Deployment,
    stacked_billing: Stacked,
    _database: Option<TestDatabase>,
}

impl House {
    pub(crate) async fn new() -> Self {
        let database = weir_testing::database("quota", async |url: String| {
            Ok(migrate(&url.into(), &master(), &[weir_quota::MIGRATION]).await?)
        })
        .await
        .unwrap();
        Self::build(database.url.clone(), Some(database)).await
    }

    /// With a Redis of its own, to be paused.
    pub(crate) async fn with_private_redis() -> Self {
        Self { redis: Server(Some(weir_testing::private_redis().await.unwrap())), ..Self::new().await }
    }

    /// On a Redis Cluster of three masters.
    pub(crate) async fn on_cluster() -> Self {
        Self { cluster: Some(RedisCluster::start(3).await.unwrap()), ..Self::new().await }
    }

    /// On a Postgres of the test's own.
    pub(crate) async fn at(server: &PostgresServer) -> Self {
        migrate(&server.url().into(), &master(), &[weir_quota::MIGRATION]).await.unwrap();
        Self::build(server.url().to_owned(), None).await
    }

    async fn build(url: String, database: Option<TestDatabase>) -> Self {
        let deployment = Deployment::new().await;
        let billing = Billing::new();
        let routes = Routes::new(BillingServiceServer::new(billing::Fake(Arc::clone(&billing))));
        let stacked_billing = deployment.stack("billing", routes, billing::ACCESS).await;
        let kind = Kind::of_this_test();
        let redis = Server(match kind {
            Kind::Redis => Some(weir_testing::redis().await.unwrap()),
            Kind::Memory => None,
        });
        let memory = MemoryStore::new(Arc::new(SystemClock), 1 << 30, None);
        Self { redis, memory, kind, cluster: None, url, billing, deployment, stacked_billing, _database: database }
    }

    /// A tenant with these limits.
    pub(crate) fn tenant(&self, limits: Vec<Limit>) -> OrganizationId {
        let organization = OrganizationId::new_v7();
        self.billing.set(organization, limits);
        organization
    }

    pub(crate) async fn database(&self) -> Database {
        let mut config = settings().database;
        config.url = service_url(&self.url.as_str().into(), &master(), "quota");
        Database::connect(&config, "quota").await.unwrap()
    }

    /// The store that the engines share.
    pub(crate) async fn store(&self) -> Store {
        match self.kind {
            Kind::Redis => self.connection().await.into(),
            Kind::Memory => self.memory.clone().into(),
        }
    }

    /// The store loses everything.
    pub(crate) async fn lose(&self) {
        match self.kind {
            Kind::Redis => self.redis.flush().await.unwrap(),
            Kind::Memory => self.memory.lose(),
        }
    }

    /// All that the store has of a tenant.
    pub(crate) async fn contents(&self, tenant: OrganizationId) -> Contents {
        self.store().await.contents(&tenant).await.unwrap()
    }

    /// How many subjects, reservations and marks a tenant has.
    pub(crate) async fn size(&self, tenant: OrganizationId) -> usize {
        match self.kind {
            Kind::Redis => {
                let key = format!("wq3:{{{}}}s", tenant.as_uuid().simple());
                self.connection().await.command(weir_redis::redis::cmd("HLEN").arg(&key)).await.unwrap()
            }
            Kind::Memory => self.memory.size(&tenant),
        }
    }

    /// Everything in the store, whatever order it is kept in; of a store in memory, what it has of the tenant.
    pub(crate) async fn dump(&self, tenant: OrganizationId) -> String {
        match self.kind {
            Kind::Redis => format!("{:?}", dump(&self.connection().await).await),
            Kind::Memory => format!("{:?} {}", self.contents(tenant).await, self.memory.size(&tenant)),
        }
    }

    /// A connection to the same Redis.
    pub(crate) async fn connection(&self) -> Redis {
        let mut config = settings().redis;
        config.url = self.redis.url().into();
        Redis::connect(&config).await.unwrap()
    }

    pub(crate) async fn engine(&self) -> Engine {
        self.engine_with(settings()).await
    }

    pub(crate) async fn engine_with(&self, settings: Settings) -> Engine {
        self.engine_at(settings, Arc::new(SystemClock)).await
    }

    /// With a clock of its own.
    pub(crate) async fn engine_at(&self, mut settings: Settings, clock: Arc<dyn Clock>) -> Engine {
        if self.kind == Kind::Memory {
            return self.engine_over(self.memory.clone().into(), settings, clock).await;
        }
        settings.redis.url = self.redis.url().into();
        if let Some(cluster) = &self.cluster {
            (settings.redis.url, settings.redis.cluster) = (cluster.url().into(), true);
        }
        self.engine_by(settings, clock).await
    }

    /// With a way of its own to Redis, too.
    pub(crate) async fn engine_by(&self, settings: Settings, clock: Arc<dyn Clock>) -> Engine {
        let redis = Redis::connect(&settings.redis).await.unwrap();
        self.engine_over(redis.into(), settings, clock).await
    }

    /// Over a store of its own.
    pub(crate) async fn engine_over(&self, store: Store, mut settings: Settings, clock: Arc<dyn Clock>) -> Engine {
        settings.database.url = service_url(&self.url.as_str().into(), &master(), "quota");
        let context = Context {
            clock,
            channels: Channels::fixed([("billing", self.deployment.channel("quota", &self.stacked_billing))]),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            master: master(),
            instance: "test".into(),
            max_message_bytes: 1 << 22,
            revocations: Revocations::default(),
        };
        let database = Database::connect(&settings.database, "quota").await.unwrap();
        let routes = weir_quota::routes(settings.quota, database, store, &context);
        let mut rpc = self.deployment.config().clone();
        rpc.server.max_in_flight = settings.max_in_flight.unwrap_or(rpc.server.max_in_flight);
        let stack = Stack::new("quota", routes, weir_quota::ACCESS).essential(weir_quota::ESSENTIAL);
        let stacked = stack.build(self.deployment.verifier().clone(), &rpc).await.unwrap();
        Engine { stacked, deployment: self.deployment.clone(), context }
    }
}

/// A running quota service. Dropped without a shutdown, it ends as by `kill -9`: its tasks are gone with the runtime.
pub(crate) struct Engine {
    stacked: Stacked,
    pub(crate) deployment: Deployment,
    context: Context,
}

impl Engine {
    /// As the broker.
    pub(crate) fn client(&self) -> Client {
        self.as_service("ai-broker")
    }

    pub(crate) fn as_service(&self, name: &str) -> Client {
        QuotaServiceClient::new(self.deployment.channel(name, &self.stacked))
    }

    /// The process has been told to stop, and still answers.
    pub(crate) fn end_watches(&self) {
        self.stacked.end_watches();
    }

    pub(crate) async fn stop(&self) {
        self.context.shutdown.cancel();
        self.context.tasks.close();
        tokio::time::timeout(Duration::from_secs(60), self.context.tasks.wait()).await.unwrap();
    }

    /// Status, as the audit sees it.
    pub(crate) async fn status(&self) -> GetStatusResponse {
        let mut request = tonic::Request::new(GetStatusRequest {});
        // It looks at everything.
        request.set_timeout(Duration::from_secs(60));
        self.as_service("operator").get_status(request).await.unwrap().into_inner()
    }

    /// Nothing is held, and every counter is what it must be.
    pub(crate) async fn assert_balanced(&self) -> GetStatusResponse {
        let status = self.status().await;
        assert_eq!(status.drifts, []);
        assert_eq!((status.held, status.expired), (0, 0));
        status
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

pub(crate) fn id() -> String {
    ReservationId::new_v7().to_string()
}

pub(crate) fn amounts(list: &[(&str, i64)]) -> Vec<Amount> {
    list.iter().map(|(unit, value)| Amount { unit: (*unit).to_owned(), value: *value }).collect()
}

pub(crate) fn subject(organization: OrganizationId) -> Subject {
    Subject { organization: names::organization(&organization), ..Default::default() }
}

pub(crate) fn reserve(organization: OrganizationId, list: &[(&str, i64)]) -> ReserveRequest {
    ReserveRequest {
        reservation_id: id(),
        subject: Some(subject(organization)),
        amounts: amounts(list),
        lease: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        context: b"draft".to_vec().into(),
        limits: Vec::new(),
    }
}

pub(crate) fn commit(reserved: &ReserveRequest, handle: &ReserveResponse, actuals: &[(&str, i64)]) -> CommitRequest {
    CommitRequest {
        reservation_id: reserved.reservation_id.clone(),
        organization: reserved.subject.as_ref().unwrap().organization.clone(),
        handle: handle.handle.clone(),
        actuals: amounts(actuals),
        estimated: false,
    }
}

pub(crate) fn release(reserved: &ReserveRequest, handle: &ReserveResponse) -> ReleaseRequest {
    ReleaseRequest {
        reservation_id: reserved.reservation_id.clone(),
        organization: reserved.subject.as_ref().unwrap().organization.clone(),
        handle: handle.handle.clone(),
        reason: "test".to_owned(),
    }
}

pub(crate) fn extension(reserved: &ReserveRequest, handle: &ReserveResponse, seconds: i64) -> LeaseExtension {
    LeaseExtension {
        reservation_id: reserved.reservation_id.clone(),
        handle: handle.handle.clone(),
        lease: Some(prost_types::Duration { seconds, nanos: 0 }),
        context: reserved.context.clone(),
        amounts: Vec::new(),
    }
}

/// The answer, or the failure as clients see it.
pub(crate) fn open<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer.map(tonic::Response::into_inner).map_err(Failure::from)
}

/// The state of one limit.
pub(crate) async fn balance(client: &mut Client, organization: OrganizationId, limit: &str) -> LimitState {
    balance_of(client, subject(organization), limit).await
}

pub(crate) async fn balance_of(client: &mut Client, subject: Subject, limit: &str) -> LimitState {
    let answer = client.get_balance(GetBalanceRequest { subject: Some(subject) }).await.unwrap().into_inner();
    answer.limits.into_iter().find(|state| state.limit == limit).unwrap()
}

/// Runs `clients` at once, each over one of the engines; answers what each returns.
pub(crate) async fn storm<T: Send + 'static>(
    engines: &[&Engine],
    clients: usize,
    work: impl AsyncFn(Client, usize) -> T,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let runs = (0..clients).map(|number| {
        let engine = engines[next.fetch_add(1, Ordering::Relaxed) % engines.len()];
        work(engine.client(), number)
    });
    futures::future::join_all(runs).await
}

async fn dump(redis: &Redis) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let keys: Vec<Vec<u8>> = redis.command(cmd("KEYS").arg("*")).await.unwrap();
    let mut dump = BTreeMap::new();
    for key in keys {
        let kind: String = redis.command(cmd("TYPE").arg(&key)).await.unwrap();
        let mut read = match kind.as_str() {
            "hash" => cmd("HGETALL"),
            "zset" => cmd("ZRANGE"),
            other => panic!("nobody writes a {other}"),
        };
        read.arg(&key);
        if kind == "zset" {
            read.arg(0).arg(-1).arg("WITHSCORES");
        }
        let values: Vec<Vec<u8>> = redis.command(&read).await.unwrap();
        let mut pairs: Vec<Vec<u8>> = values.chunks(2).map(<[Vec<u8>]>::concat).collect();
        pairs.sort_unstable();
        dump.insert(key, pairs);
    }
    dump
}
