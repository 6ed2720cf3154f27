//! A deployment of billing alone: a database, a usage service in memory, and replicas that can be killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};
use weir_billing::{MIGRATION, NAME, Parts};
use weir_config::MasterKey;
use weir_database::{Database, migrate, service_url};
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetStatusRequest, GetStatusResponse};
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, Failure, Stacked};
use weir_testing::TestDatabase;
use weir_types::{Clock, ManualClock, OrganizationId, names};

use crate::usage::FakeUsage;

pub(crate) type Client = BillingServiceClient<Channel>;

/// The key of the databases of all tests: roles and their passwords belong to the server that the tests share.
pub(crate) fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

/// What time it is when a test begins.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-15T12:00:00Z".parse().unwrap()
}

#[derive(Deserialize)]
pub(crate) struct Settings {
    pub(crate) billing: weir_billing::Config,
    pub(crate) database: weir_database::Config,
}

/// The defaults, but faster.
pub(crate) fn settings() -> Settings {
    let text = [weir_billing::DEFAULTS, weir_database::DEFAULTS].concat();
    let mut settings: Settings = toml::from_str(&text).unwrap();
    settings.billing.rating.linger = Duration::from_millis(5);
    settings.billing.rating.lease = Duration::from_millis(300);
    settings.billing.rating.retry_unrated = Duration::from_millis(50);
    settings.billing.entitlements.heartbeat = Duration::from_millis(50);
    settings.billing.price_layers = vec!["simulated-1".to_owned()];
    settings
}

/// What all replicas share.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) usage: FakeUsage,
    pub(crate) deployment: Deployment,
    database: TestDatabase,
}

impl House {
    pub(crate) async fn new() -> Self {
        let database =
            weir_testing::database("billing", async |url| Ok(migrate(&url.into(), &master(), &[MIGRATION]).await?));
        Self {
            clock: Arc::new(ManualClock::new(now())),
            usage: FakeUsage::new(),
            deployment: Deployment::new().await,
            database: database.await.unwrap(),
        }
    }

    pub(crate) async fn with_replica() -> (Self, Replica) {
        let house = Self::new().await;
        let replica = house.replica(settings()).await.unwrap();
        (house, replica)
    }

    /// A pool under billing's own role.
    pub(crate) async fn database(&self) -> Database {
        let mut config = settings().database;
        config.url = service_url(&self.database.url.as_str().into(), &master(), NAME);
        config.min_connections = 0;
        Database::connect(&config, NAME).await.unwrap()
    }

    /// A connection of the superuser.
    pub(crate) async fn superuser(&self) -> PgConnection {
        PgConnection::connect(&self.database.url).await.unwrap()
    }

    /// Starts a replica in a runtime of its own, which can be killed.
    pub(crate) async fn replica(&self, settings: Settings) -> Result<Replica, weir_host::StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut config = settings.database.clone();
        config.url = service_url(&self.database.url.as_str().into(), &master(), NAME);
        config.min_connections = 0;
        let (usage, clock, deployment) = (self.usage.clone(), Arc::clone(&self.clock), self.deployment.clone());
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (work, until) = (tasks.clone(), shutdown.clone());
        let started = runtime.spawn(async move {
            let parts = Parts {
                database: Database::connect(&config, NAME).await.unwrap(),
                clock: clock as Arc<dyn Clock>,
                usage: usage.channel(&deployment, NAME).await,
                instance: uuid::Uuid::now_v7().to_string(),
                max_message_bytes: deployment.config().max_message_bytes,
            };
            let routes = weir_billing::serve(settings.billing, parts, &work, &until).await?;
            Ok(deployment.stack(NAME, routes, weir_billing::ACCESS).await)
        });
        let service = match started.await.unwrap() {
            Ok(service) => service,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Replica { service, deployment: self.deployment.clone(), shutdown, tasks, runtime: Some(runtime) })
    }
}

/// A running billing service.
pub(crate) struct Replica {
    service: Stacked,
    deployment: Deployment,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Replica {
    /// A client that calls as this service.
    pub(crate) fn service(&self, name: &str) -> Client {
        BillingServiceClient::new(self.deployment.channel(name, &self.service))
    }

    pub(crate) fn operator(&self) -> Client {
        self.service("operator")
    }

    /// Ends all of it at once, wherever it is.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Stops it in order and waits until nothing of it is at work.
    pub(crate) async fn stop(self) {
        self.service.end_watches();
        self.shutdown.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(60), self.tasks.wait()).await.unwrap();
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        self.operator().get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until all of the feed is read.
    pub(crate) async fn rated(&self) -> GetStatusResponse {
        for _ in 0..6_000 {
            let status = self.status().await;
            if status.rated_position == status.feed_head {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("rating does not come to an end: {:?}", self.status().await);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

pub(crate) fn open<T>(answer: Result<Response<T>, Status>) -> Result<T, Failure> {
    answer.map(Response::into_inner).map_err(|status| Failure::from(&status))
}

pub(crate) fn name(organization: OrganizationId) -> String {
    names::organization(&organization)
}

/// A file of a test.
pub(crate) fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}
