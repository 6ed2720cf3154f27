//! Who pays: plans, prices, the rating of usage into a double-entry ledger, statements.

mod access;
mod app;
mod config;
mod domain;
mod error;
mod feed;
mod grpc;
mod storage;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::{Errors, Problem};
use weir_database::{Database, Migration};
use weir_host::{Context, Probe, Service, StartError};
use weir_proto::billing::v1::billing_service_server::BillingServiceServer;
use weir_rpc::{Channel, Routes};
use weir_types::Clock;

pub use access::ACCESS;
pub use config::{Config, DEFAULTS, Entitlements, Rating};

use app::{Billing, EntitlementsWatch, Rater};
use error::Error;
use feed::UsageFeed;

/// The service's name: its schema and roles, its place in the directory, its section of the configuration.
pub const NAME: &str = "billing";

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// What the schema needs.
pub const MIGRATION: Migration = Migration { service: NAME, migrator: &MIGRATOR };

/// Starts billing: it answers, follows changes of entitlements, and rates usage until the context's shutdown.
///
/// # Errors
/// Unsound plans or prices; a published price that was changed; organisations on a plan that is gone.
pub async fn start(config: Config, database: Database, context: &Context) -> Result<Service, StartError> {
    let parts = Parts {
        database: database.clone(),
        clock: Arc::clone(&context.clock),
        usage: context.channels.to("usage"),
        instance: context.instance.clone(),
        max_message_bytes: context.max_message_bytes,
    };
    let routes = serve(config, parts, &context.tasks, &context.shutdown).await?;
    let ping = database;
    Ok(Service::new(NAME).grpc(routes, ACCESS).probe(Probe::new("postgres", move || {
        let database = ping.clone();
        async move { database.ping().await }
    })))
}

/// What a replica of billing is made of.
pub struct Parts {
    /// A pool under billing's own role.
    pub database: Database,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The way to usage.
    pub usage: Channel,
    /// This replica's own name.
    pub instance: String,
    /// The largest message.
    pub max_message_bytes: usize,
}

/// Starts the tasks of a replica and answers its routes, without any listener.
///
/// # Errors
/// As [`start`].
pub async fn serve(
    config: Config,
    parts: Parts,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Routes, StartError> {
    let unsound = |problems: Vec<Problem>| StartError::new("reading plans and prices", Errors(problems));
    let catalogue = config.catalogue().map_err(unsound)?;
    let shelf = config.shelf(parts.clock.now()).map_err(unsound)?;
    let feed = UsageFeed::new(parts.usage);
    let billing = Arc::new(Billing::new(parts.database.clone(), parts.clock, catalogue, shelf, feed));
    match billing.publish().await {
        Ok(_) => {}
        // Published when the database is there; until then nothing that depends on it is answered.
        Err(Error::Database(error @ (weir_database::Error::Unavailable(_) | weir_database::Error::Serialization))) => {
            tracing::warn!(%error, "plans and prices are not published yet");
        }
        Err(error) => return Err(StartError::new("publishing plans and prices", error)),
    }
    let watch = Arc::new(EntitlementsWatch::new(parts.database, config.entitlements, shutdown.clone()));
    let watching = Arc::clone(&watch);
    tasks.spawn(async move { watching.run().await });
    tasks.spawn(Rater::new(Arc::clone(&billing), config.rating, parts.instance).run(shutdown.clone()));
    let server = BillingServiceServer::new(grpc::Grpc::new(billing, watch));
    Ok(Routes::new(server.max_decoding_message_size(parts.max_message_bytes)))
}
