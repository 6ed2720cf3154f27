//! What was used: every provider call exactly once, durable when acknowledged.
//!
//! An event is in the books when the transaction that holds it, the hour's sums and its place in the feed has committed;
//! nothing is answered before. No event is counted twice, none is lost once acknowledged, and no place in the feed
//! becomes visible before those in front of it.

pub mod access;
pub mod app;
pub mod config;
pub mod domain;
mod error;
mod grpc;
pub mod storage;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_database::{Migration, copy};
use weir_host::{Context, Probe, Service, StartError};
use weir_rpc::Routes;
use weir_types::Clock;

use crate::app::{Feed, Recorder};
use crate::storage::Store;

pub use access::ACCESS;
pub use config::{Config, DEFAULTS};
pub use error::Error;

/// The service's name: its schema and roles, its place in the directory, its section of the configuration.
pub const NAME: &str = "usage";

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// What the schema needs.
pub const MIGRATION: Migration = Migration { service: NAME, migrator: &MIGRATOR };

/// A service that has been put together, and whose work goes on in the tasks it was given.
#[derive(Debug)]
pub struct Usage {
    /// What it serves.
    pub routes: Routes,
    recorder: Recorder,
    store: Store,
}

impl Usage {
    /// Puts it together on the database that `database` names, with the schema of [`MIGRATION`] in it; the database
    /// may come up later.
    ///
    /// # Errors
    /// When the database's URL can't be used.
    pub fn open(
        config: Config,
        database: &weir_database::Config,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
        max_message_bytes: usize,
    ) -> Result<Self, Error> {
        let store = Store::new(copy::deadpool(database, NAME)?, database.statement_timeout);
        let feed = Feed::new(store.clone());
        let (recorder, writer) = Recorder::new(&config, store.clone(), feed.clone(), clock);
        tasks.spawn(writer.run());
        tasks.spawn(feed.clone().run(config.feed_poll, shutdown.clone()));
        let api = grpc::Api { recorder: recorder.clone(), store: store.clone(), feed, shutdown: shutdown.clone() };
        Ok(Self { routes: Routes::new(api.into_server(max_message_bytes)), recorder, store })
    }
}

/// Starts the service.
///
/// # Errors
/// When the database's URL can't be used.
pub async fn start(config: Config, database: &weir_database::Config, context: &Context) -> Result<Service, StartError> {
    let Context { clock, tasks, shutdown, .. } = context;
    let usage = Usage::open(config, database, clock.clone(), tasks, shutdown, context.max_message_bytes)
        .map_err(|error| StartError::new("usage", error))?;
    let Usage { routes, recorder, store } = usage;
    Ok(Service::new(NAME)
        .grpc(routes, ACCESS)
        // What was used is recorded even when there is no room for new questions.
        .essential(&["/weir.usage.v1.UsageService/RecordEvents"])
        .probe(Probe::new("postgres", move || {
            let store = store.clone();
            async move { store.ping().await }
        }))
        // The writer ends when it has recorded what waits.
        .drain(async move { recorder.close() }))
}
