//! Against a real Postgres.

mod configuration;
mod copying;
mod encryption;
mod errors;
mod migrating;
mod outages;
mod pooler;
mod tenants;

use std::time::Duration;

use sqlx::migrate::Migrator;
use weir_config::{MasterKey, Secret};
use weir_database::{Config, Database, Migration, migrate, service_url};
use weir_testing::TestDatabase;

static ALPHA: Migrator = sqlx::migrate!("tests/it/migrations/alpha");
static BETA: Migrator = sqlx::migrate!("tests/it/migrations/beta");

const SERVICES: &[Migration] =
    &[Migration { service: "alpha", migrator: &ALPHA }, Migration { service: "beta", migrator: &BETA }];

/// One key for all tests: roles and their passwords belong to the server that the tests share.
fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("32 bytes")
}

async fn migrated() -> anyhow::Result<TestDatabase> {
    weir_testing::database("database", async |url: String| Ok(migrate(&url.into(), &master(), SERVICES).await?)).await
}

fn config(url: Secret) -> Config {
    Config {
        url,
        max_connections: 4,
        min_connections: 0,
        acquire_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(60),
        statement_timeout: Duration::from_millis(500),
        statement_cache_capacity: 100,
    }
}

async fn alpha(database: &TestDatabase) -> anyhow::Result<Database> {
    let url = service_url(&database.url.as_str().into(), &master(), "alpha");
    Ok(Database::connect(&config(url), "alpha").await?)
}
