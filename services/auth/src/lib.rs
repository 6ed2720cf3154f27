//! Who is calling: organisations, users, API keys, and the short-lived principal tokens that every service verifies itself.

mod access;
mod app;
pub mod config;
mod domain;
mod error;
mod grpc;
mod housekeeping;
mod passwords;
mod revocation_feed;
mod signing_ring;
mod storage;

use std::sync::Arc;

use weir_database::{Database, Migration};
use weir_host::{Context, Probe, Service, StartError};
use weir_proto::auth::v1::auth_service_server::AuthServiceServer;
use weir_rpc::Routes;

pub use access::{ACCESS, ESSENTIAL, SERVICE};
pub use config::{Config, DEFAULTS};

use app::Auth;
use domain::SealingKey;
use grpc::Grpc;
use passwords::Passwords;
use revocation_feed::RevocationFeed;
use signing_ring::SigningRing;

/// The service's name: its schema and roles, its place in the directory, its section of the configuration.
pub const NAME: &str = "auth";

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// What the schema needs.
pub const MIGRATION: Migration = Migration { service: NAME, migrator: &MIGRATOR };

/// Starts the service. `database` is a pool under the service's own role. The database need not answer yet: until it does,
/// the service is not ready.
///
/// # Errors
/// When argon2 refuses its parameters.
pub async fn start(config: Config, database: Database, context: &Context) -> Result<Service, StartError> {
    let (auth, routes) = assemble(config, database.clone(), context).await?;
    let (ring, feed) = (Arc::clone(&auth.ring), Arc::clone(&auth.feed));
    let service = Service::new(NAME)
        .grpc(routes, ACCESS)
        .essential(ESSENTIAL)
        .probe(Probe::new("postgres", move || {
            let database = database.clone();
            async move { database.ping().await }
        }))
        .probe(Probe::new("signing-keys", move || {
            std::future::ready(ring.is_ready().then_some(()).ok_or("not confirmed by the database"))
        }))
        .probe(Probe::new("revocations", move || {
            std::future::ready(feed.is_ready().then_some(()).ok_or("not read from the database yet"))
        }));
    Ok(service)
}

/// The service's routes, with its background work begun: for tests that put the layers around them themselves.
///
/// # Errors
/// As [`start`].
pub async fn routes(config: Config, database: Database, context: &Context) -> Result<Routes, StartError> {
    Ok(assemble(config, database, context).await?.1)
}

async fn assemble(config: Config, database: Database, context: &Context) -> Result<(Arc<Auth>, Routes), StartError> {
    let clock = &context.clock;
    let lifetime = config.tokens.lifetime;
    let sealing = SealingKey::new(&context.master.derive("auth/signing-keys"))
        .map_err(|error| StartError::new("auth: sealing key", error))?;
    let passwords =
        Passwords::new(&config.passwords).await.map_err(|error| StartError::new("auth: passwords", error))?;
    let ring = SigningRing::new(database.clone(), Arc::clone(clock), sealing, config.signing, lifetime);
    let feed = RevocationFeed::new(database.clone(), Arc::clone(clock), config.revocations, context.shutdown.clone());
    let auth = Arc::new(Auth {
        database: database.clone(),
        clock: Arc::clone(clock),
        token_lifetime: lifetime,
        ring: Arc::new(ring),
        passwords,
        feed: Arc::new(feed),
    });

    let (ring, until) = (Arc::clone(&auth.ring), context.shutdown.clone());
    context.tasks.spawn(async move { ring.run(until).await });
    let feed = Arc::clone(&auth.feed);
    context.tasks.spawn(async move { feed.run().await });
    let sweeping = housekeeping::run(database, Arc::clone(clock), config.housekeeping, context.shutdown.clone());
    context.tasks.spawn(sweeping);

    let routes = Routes::new(AuthServiceServer::new(Grpc(Arc::clone(&auth))));
    Ok((auth, routes))
}
