//! May they: reservations against every limit at once, all or nothing, settled exactly once.
//!
//! Redis decides, or this process's memory; Postgres remembers. What is absent, whatever fails: no admission beyond a limit of money while counters are being
//! rebuilt, no reservation that ends twice, no committed amount that is not in Postgres when it is acknowledged, no denial that
//! writes anything.

mod access;
pub mod app;
pub mod config;
pub mod domain;
mod error;
mod grpc;
#[cfg(feature = "measure")]
pub mod measure;
mod refusal;
pub mod storage;
pub mod words;

use std::sync::Arc;

use weir_database::{Database, Migration};
use weir_host::{Context, Probe, Service, StartError};
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::quota::v1::quota_service_server::QuotaServiceServer;
use weir_redis::Redis;
use weir_rpc::Routes;

use config::StoreKind;
use storage::Store;
use storage::memory::{self, Ownership};

pub use access::{ACCESS, ESSENTIAL};
pub use config::{Config, DEFAULTS};
pub use error::Error;

/// The service's name: its schema and roles, its place in the directory, its section of the configuration.
pub const NAME: &str = "quota";

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// The largest message: a thousand reservations with everything that they may carry.
const LARGEST: usize = 10 << 20;

/// What the schema needs.
pub const MIGRATION: Migration = Migration { service: NAME, migrator: &MIGRATOR };

/// Starts the service. It needs no store to begin with: both may come up later. Redis is for limits that are counted there.
///
/// # Errors
/// When another process counts in memory what this one is to count in memory, or when Redis's address is none.
pub async fn start(
    config: Config,
    database: Database,
    redis: &weir_redis::Config,
    context: &Context,
) -> Result<Service, StartError> {
    let store = match config.store {
        StoreKind::Redis => {
            let redis = Redis::connect(redis).await.map_err(|error| StartError::new("Redis", error))?;
            Store::from(redis)
        }
        StoreKind::Memory => {
            let ownership = Ownership::new(database.clone(), config.rebuild.check_every);
            let store = memory::Store::new(Arc::clone(&context.clock), config.memory.max_bytes(), Some(ownership));
            store.claim().await.map_err(|failure| StartError::new("quota", refuse(&failure)))?;
            Store::from(store)
        }
    };
    let (quota, routes) = assemble(config, database, store, context);
    Ok(Service::new(NAME).grpc(routes, ACCESS).essential(ESSENTIAL).probe(Probe::new("stores", move || {
        let quota = Arc::clone(&quota);
        async move { quota.ping().await }
    })))
}

fn refuse(failure: &storage::store::Failure) -> String {
    format!(
        "{failure} (quota.store = \"memory\"): stop that process first, or set quota.store = \"redis\" on both to run several"
    )
}

/// The routes alone, with their background work; for tests that put their own layers around them.
pub fn routes(config: Config, database: Database, store: impl Into<Store>, context: &Context) -> Routes {
    assemble(config, database, store.into(), context).1
}

fn assemble(config: Config, database: Database, store: Store, context: &Context) -> (Arc<app::Quota>, Routes) {
    let Context { clock, channels, tasks, shutdown, .. } = context;
    let size = context.max_message_bytes;
    let billing = BillingServiceClient::new(channels.to("billing")).max_decoding_message_size(size);
    let quota = app::Quota::start(config, database, store, Arc::clone(clock), billing, tasks, shutdown);
    let service = grpc::Grpc { quota: Arc::clone(&quota), tasks: tasks.clone(), shutdown: shutdown.clone() };
    let server = QuotaServiceServer::new(service).max_decoding_message_size(size.min(LARGEST));
    (quota, Routes::new(server))
}
