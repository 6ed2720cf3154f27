//! The broker's schema: whose rows a tenant sees, and what goes on without it.

use std::time::Duration;

use sqlx::Executor as _;
use weir_ai_broker::{MIGRATION, SCHEMA};
use weir_config::{MasterKey, Secret};
use weir_database::{Config, Database, migrate, service_url};
use weir_testing::TestDatabase;
use weir_types::OrganizationId;

use crate::scene::{Scene, chat};

/// One key for all tests: roles and their passwords belong to the server that the tests share.
pub(crate) fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

/// A database of the test's own, with the schema in it.
pub(crate) async fn database() -> TestDatabase {
    weir_testing::database("broker", async |url: String| Ok(migrate(&url.into(), &master(), &[MIGRATION]).await?))
        .await
        .unwrap()
}

/// A pool under the broker's own role.
pub(crate) async fn connect(admin_url: &str) -> Database {
    let url = service_url(&admin_url.into(), &master(), SCHEMA);
    Database::connect(&config(url, Duration::from_secs(10)), SCHEMA).await.unwrap()
}

/// A database that nobody answers for.
pub(crate) async fn nowhere() -> Database {
    let url = Secret::from("postgres://nobody:x@127.0.0.1:1/weir".to_owned());
    Database::connect(&config(url, Duration::from_millis(10)), SCHEMA).await.unwrap()
}

fn config(url: Secret, acquire_timeout: Duration) -> Config {
    Config {
        url,
        max_connections: 10,
        min_connections: 0,
        acquire_timeout,
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        statement_timeout: Duration::from_secs(20),
        statement_cache_capacity: 100,
    }
}

/// Every table of the schema that has tenants' rows.
async fn tables(database: &Database) -> Vec<String> {
    sqlx::query_scalar(
        "select table_name::text from information_schema.columns
         where table_schema = 'broker' and column_name = 'organization_id' order by 1",
    )
    .fetch_all(database.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_tenant_sees_and_writes_no_rows_but_its_own_in_every_table() {
    let admin = database().await;
    let database = connect(&admin.url).await;
    let tables = tables(&database).await;
    assert!(tables.contains(&"webhook_secrets".to_owned()), "{tables:?}");
    for table in tables {
        let secured: bool = sqlx::query_scalar("select relrowsecurity from pg_class where oid = $1::text::regclass")
            .bind(format!("broker.{table}"))
            .fetch_one(database.pool())
            .await
            .unwrap();
        assert!(secured, "{table} has no row-level security");
    }
    let [ours, theirs] = [OrganizationId::new_v7(), OrganizationId::new_v7()];
    let insert = "insert into broker.webhook_secrets (organization_id, version) values ($1, 1)";
    let mut tx = database.begin_tenant(ours).await.unwrap();
    tx.execute(sqlx::query(insert).bind(ours.as_uuid())).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = database.begin_tenant(theirs).await.unwrap();
    let seen: i64 =
        sqlx::query_scalar("select count(*) from broker.webhook_secrets").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(seen, 0, "the query forgot its filter");
    let written = tx.execute(sqlx::query(insert).bind(OrganizationId::new_v7().as_uuid())).await;
    assert!(written.unwrap_err().to_string().contains("row-level security"));
}

#[tokio::test]
async fn calls_go_on_without_a_database() {
    let scene = Scene::new().await;
    assert!(scene.database.ping().await.is_err());
    scene.invoke(&chat(3, "")).await.unwrap();
    assert_eq!(scene.settled().await.output_tokens, 3);
}
