//! May they: reservations against every limit at once, all or nothing, settled exactly once.
//!
//! Redis decides, Postgres remembers. What is absent, whatever fails: no admission beyond a limit of money while counters are being
//! rebuilt, no reservation that ends twice, no committed amount that is not in Postgres when it is acknowledged, no denial that
//! writes anything.

mod access;
pub mod app;
pub mod config;
pub mod domain;
mod error;
mod grpc;
mod refusal;
pub mod storage;

use std::sync::Arc;

use weir_database::{Database, Migration};
use weir_host::{Context, Probe, Service, StartError};
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::quota::v1::quota_service_server::QuotaServiceServer;
use weir_redis::Redis;
use weir_rpc::Routes;

use storage::Store;

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

/// Starts the service. It needs no store to begin with: both may come up later.
///
/// # Errors
/// None yet.
#[expect(clippy::unused_async, reason = "as every service's")]
pub async fn start(config: Config, database: Database, redis: Redis, context: &Context) -> Result<Service, StartError> {
    let (quota, routes) = assemble(config, database, redis, context);
    Ok(Service::new(NAME).grpc(routes, ACCESS).essential(ESSENTIAL).probe(Probe::new("stores", move || {
        let quota = Arc::clone(&quota);
        async move { quota.ping().await }
    })))
}

/// The routes alone, with their background work; for tests that put their own layers around them.
pub fn routes(config: Config, database: Database, redis: Redis, context: &Context) -> Routes {
    assemble(config, database, redis, context).1
}

fn assemble(config: Config, database: Database, redis: Redis, context: &Context) -> (Arc<app::Quota>, Routes) {
    let Context { clock, channels, tasks, shutdown, .. } = context;
    let size = context.max_message_bytes;
    let store = Store::Redis(storage::redis::Store::new(redis));
    let billing = BillingServiceClient::new(channels.to("billing")).max_decoding_message_size(size);
    let quota = app::Quota::start(config, database, store, Arc::clone(clock), billing, tasks, shutdown);
    let service = grpc::Grpc { quota: Arc::clone(&quota), tasks: tasks.clone(), shutdown: shutdown.clone() };
    let server = QuotaServiceServer::new(service).max_decoding_message_size(size.min(LARGEST));
    (quota, Routes::new(server))
}
