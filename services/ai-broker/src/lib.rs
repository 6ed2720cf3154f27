//! The ai-broker: which provider answers. It reserves before every provider request, keeps streams
//! flowing, and accounts for each call exactly once.

mod access;
mod app;
mod config;
pub mod domain;
mod error;
mod grpc;
mod provider;
mod storage;

use std::sync::Arc;

use weir_database::{Database, Migration};
use weir_host::{Context, Probe, Service, StartError};
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_server::BrokerServiceServer;
use weir_proto::broker::v1::cache_service_server::CacheServiceServer;
use weir_proto::broker::v1::job_service_server::JobServiceServer;
use weir_proto::broker::v1::provider_key_service_server::ProviderKeyServiceServer;
use weir_proto::broker::v1::result_service_server::ResultServiceServer;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;

use weir_redis::Redis;
use weir_rpc::Routes;

pub use access::ACCESS;
pub use config::{Config, DEFAULTS, KeyConfig, LimitedKey, OPEN_TABLES, ProviderConfig, RouteConfig, TargetConfig};

use storage::health::SharedHealth;
use storage::lines::Lines;
use storage::objects::Objects;

use app::jobs::Jobs;
use app::results::Results;
use app::{
    Broker, Cache, Dispatch, Entitlements, Fleet, Health, Load, Metrics, Once, OwnKeys, Reload, Reservations,
    ReserveOptions, SettleOptions, SettlerTask,
};
use tokio::sync::watch;

/// The service's name in discovery, tokens and configuration.
pub const NAME: &str = "ai-broker";

/// The name of its schema, and of its roles in Postgres.
pub const SCHEMA: &str = "broker";

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// What the schema needs.
pub const MIGRATION: Migration = Migration { service: SCHEMA, migrator: &MIGRATOR };

/// Starts the broker: its tasks run until the context's shutdown, then settle what has ended. Without Redis calls wait in lines of
/// its own, so it must be the only one. Of the configurations that come by `changes` it takes over providers, keys, routes and the
/// master keys of callers' own keys. Once those have been read, calls need no database, and readiness does not depend on it.
///
/// # Errors
/// A provider that can't be called as it is configured.
pub async fn start(
    config: Config,
    database: Database,
    redis: Option<Redis>,
    changes: watch::Receiver<Config>,
    context: &Context,
) -> Result<Service, StartError> {
    let nothing = Fleet::default();
    let fleet = Fleet::new(&config, &nothing).map_err(|error| StartError::new("setting up the providers", error))?;
    let (fleets, fleet) = watch::channel(Arc::new(fleet));
    let size = context.max_message_bytes;
    let billing = BillingServiceClient::new(context.channels.to("billing")).max_decoding_message_size(size);
    let quota = QuotaServiceClient::new(context.channels.to("quota")).max_decoding_message_size(size);
    let usage = UsageServiceClient::new(context.channels.to("usage")).max_decoding_message_size(size);
    let usage_of_hits = usage.clone();
    let answers = redis.clone();
    let metrics = Arc::new(Metrics::new());
    let reserve = ReserveOptions {
        lease: config.lease,
        deadline: config.reserve_deadline,
        max_unsettled: config.max_unsettled as usize,
    };
    let reservations = Arc::new(Reservations::new(quota, reserve));
    let settle = SettleOptions { linger: config.settle_linger, batch: config.settle_batch };
    let (settler, settler_task) = SettlerTask::new(Arc::clone(&reservations), usage, settle, Arc::clone(&metrics));
    let (owner, rules) = (uuid::Uuid::new_v4(), config.queue.rules());
    let health = redis.clone().map(|redis| SharedHealth::new(redis, owner.to_string()));
    let lines = match redis {
        Some(redis) => Lines::shared(redis, owner, rules, config.queue.lease()),
        None => Lines::own(rules, Arc::clone(&context.clock)),
    };
    let cache = Cache::start(answers, database.clone(), usage_of_hits, (&config.cache).into(), context);
    let own_keys = OwnKeys::new(&config.own_keys, database.clone(), context)
        .map_err(|error| StartError::new("setting up the master keys of callers' own keys", error))?;
    let own_keys = Arc::new(own_keys);
    context.tasks.spawn(Arc::clone(&own_keys).run(changes.clone(), context.shutdown.clone()));
    let broker = Arc::new(Broker {
        offering: arc_swap::ArcSwapOption::empty(),
        entitlements: Entitlements::new(billing.clone()),
        health: Health::new(health, config.rests.probe),
        own_keys: Arc::clone(&own_keys),
        load: Arc::new(Load::new(&config.load)),
        reservations,
        settler,
        once: Once::start(database.clone(), (&config.idempotency).into(), context),
        cache: Arc::clone(&cache),
        metrics,
        clock: Arc::clone(&context.clock),
        tasks: context.tasks.clone(),
        max_attempts: config.max_attempts,
        drain: config.drain,
    });
    app::run_tasks(&broker, &config, billing, fleet.clone(), settler_task, context);
    let dispatch = Dispatch {
        lines,
        queue: (&config.queue).into(),
        tasks: context.tasks.clone(),
        shutdown: context.shutdown.clone(),
    };
    dispatch.run_lines(&fleet.borrow(), &nothing);
    context.tasks.spawn(Reload::new(fleets, dispatch).run(changes, context.shutdown.clone()));
    let server = BrokerServiceServer::new(grpc::Grpc(Arc::clone(&broker))).max_decoding_message_size(size);
    let results = open_results(&config, &database, context)?;
    let jobs = Jobs::start(Arc::clone(&broker), database, results.clone(), (&config.jobs).into(), context);
    let job_server = JobServiceServer::new(grpc::JobsGrpc(Arc::clone(&jobs))).max_decoding_message_size(size);
    let result_server = ResultServiceServer::new(grpc::ResultsGrpc(results)).max_decoding_message_size(size);
    let cache_server = CacheServiceServer::new(grpc::CacheGrpc(cache));
    let key_server = ProviderKeyServiceServer::new(grpc::ProviderKeysGrpc::new(Arc::clone(&broker)));
    let routes = Routes::new(server).add_service(job_server).add_service(result_server);
    let routes = routes.add_service(cache_server).add_service(key_server);
    let service = Service::new(NAME).grpc(routes, ACCESS);
    let service = service.probe(prices_are_read(broker)).probe(own_keys_are_read(own_keys));
    Ok(service.drain(async move { jobs.drained().await }))
}

/// Object storage, if some is configured.
fn open_results(config: &Config, database: &Database, context: &Context) -> Result<Option<Arc<Results>>, StartError> {
    let Some(place) = config.results.place() else { return Ok(None) };
    let objects = Objects::open(&place, config.results.timeout());
    let objects = objects.map_err(|error| StartError::new("opening the object storage", error))?;
    let clock = Arc::clone(&context.clock);
    let results = Results::new(objects, database.clone(), &context.master, clock, (&config.results).into());
    Ok(Some(Arc::new(results)))
}

/// Without them nobody knows whose key a call must go by.
fn own_keys_are_read(own_keys: Arc<OwnKeys>) -> Probe {
    Probe::new("own-keys", move || {
        let read = own_keys.are_read();
        async move { if read { Ok(()) } else { Err("the callers' own keys have not been read yet") } }
    })
}

/// Without prices every call would be refused.
fn prices_are_read(broker: Arc<Broker>) -> Probe {
    Probe::new("price-book", move || {
        let read = broker.offering.load().is_some();
        async move { if read { Ok(()) } else { Err("the price book has not been read yet") } }
    })
}
