use std::collections::HashSet;

use futures::future::try_join_all;
use sqlx::{Connection as _, Executor as _, PgConnection};
use weir_database::{Error, Migration, migrate, service_url};

use crate::{SERVICES, alpha, master, migrated};

static BROKEN: sqlx::migrate::Migrator = sqlx::migrate!("tests/it/migrations/broken");

async fn empty() -> anyhow::Result<weir_testing::TestDatabase> {
    weir_testing::database("empty", async |_| Ok(())).await
}

#[tokio::test]
async fn running_it_again_changes_nothing() -> anyhow::Result<()> {
    let database = migrated().await?;
    let before = applied(&database.url).await?;
    migrate(&database.url.as_str().into(), &master(), SERVICES).await?;
    assert_eq!(applied(&database.url).await?, before);
    assert_eq!(before.len(), 3);
    Ok(())
}

async fn applied(url: &str) -> anyhow::Result<Vec<(i64, String)>> {
    let mut connection = PgConnection::connect(url).await?;
    Ok(sqlx::query_as(
        "select version, installed_on::text from alpha._migrations
         union all select version, installed_on::text from beta._migrations order by 2",
    )
    .fetch_all(&mut connection)
    .await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_may_migrate_at_once() -> anyhow::Result<()> {
    // Of one database, and of several databases of the same server, which share their roles.
    let (one, other) = (empty().await?, empty().await?);
    let urls = [&one.url, &one.url, &other.url, &one.url, &other.url, &other.url];
    try_join_all(urls.map(async |url| migrate(&url.as_str().into(), &master(), SERVICES).await)).await?;
    assert_eq!(applied(&one.url).await?.len(), 3);
    assert_eq!(applied(&other.url).await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn it_needs_no_superuser() -> anyhow::Result<()> {
    let database = empty().await?;
    // Roles of its own: those of the other tests belong to a superuser already.
    let suffix = uuid::Uuid::now_v7().simple().to_string();
    let deployer = format!("deployer_{suffix}");
    let service: &'static str = format!("gamma_{}", &suffix[20..]).leak();
    let mut admin = PgConnection::connect(&database.url).await?;
    admin
        .execute(sqlx::AssertSqlSafe(format!(
            "create role {deployer} login createrole password 'deployer';
             grant create on database {} to {deployer}",
            database.name
        )))
        .await?;
    let mut url = url::Url::parse(&database.url)?;
    url.set_username(&deployer).and_then(|()| url.set_password(Some("deployer"))).expect("a URL with a host");
    let url = url.to_string();

    // Leaked: one static migrator per name is what the type asks for.
    let migrator = Box::leak(Box::new(sqlx::migrate::Migrator::with_migrations(vec![sqlx::migrate::Migration::new(
        1,
        "things".into(),
        sqlx::migrate::MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(format!("create table {service}.thing (id int)"))),
        false,
    )])));
    let services = [Migration { service, migrator }];
    for _ in 0..2 {
        migrate(&url.as_str().into(), &master(), &services).await?;
    }

    let owner: String =
        sqlx::query_scalar("select tableowner::text from pg_tables where schemaname = $1 and tablename = 'thing'")
            .bind(service)
            .fetch_one(&mut admin)
            .await?;
    assert_eq!(owner, format!("weir_{service}"));
    let mut as_service = PgConnection::connect(service_url(&url.as_str().into(), &master(), service).expose()).await?;
    let (name, superuser): (String, bool) =
        sqlx::query_as("select current_user::text, rolsuper from pg_roles where rolname = current_user")
            .fetch_one(&mut as_service)
            .await?;
    assert_eq!((name, superuser), (format!("weir_{service}"), false));
    as_service.close().await?;

    admin
        .execute(sqlx::AssertSqlSafe(format!(
            "drop schema {service} cascade; drop owned by {deployer}, weir_{service}, weir_{service}_tenant;
             drop role weir_{service}, weir_{service}_tenant; drop role {deployer}"
        )))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_service_can_not_touch_another_services_schema() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let mut transaction = alpha.begin().await?;
    let read = sqlx::query("select * from beta.note").execute(&mut *transaction).await.map_err(Error::from);
    assert!(matches!(&read, Err(Error::Internal(text)) if text.contains("permission denied")), "{read:?}");
    Ok(())
}

#[tokio::test]
async fn a_migration_runs_as_its_service_and_a_failed_one_leaves_nothing() -> anyhow::Result<()> {
    let database = migrated().await?;
    let services = [Migration { service: "broken", migrator: &BROKEN }];
    let failed = migrate(&database.url.as_str().into(), &master(), &services).await;
    assert!(matches!(&failed, Err(Error::Internal(text)) if text.contains("permission denied")), "{failed:?}");
    let mut admin = PgConnection::connect(&database.url).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables where schemaname in ('alpha', 'broken')",
    )
    .fetch_all(&mut admin)
    .await?;
    let expected = ["alpha._migrations", "alpha.thing", "broken._migrations"].map(str::to_owned);
    assert_eq!(tables.into_iter().collect::<HashSet<_>>(), HashSet::from(expected));
    // The lock is free again.
    migrate(&database.url.as_str().into(), &master(), SERVICES).await?;
    Ok(())
}

#[tokio::test]
async fn the_server_never_sees_a_password() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut admin = PgConnection::connect(&database.url).await?;
    let stored: String = sqlx::query_scalar("select rolpassword from pg_authid where rolname = 'weir_alpha'")
        .fetch_one(&mut admin)
        .await?;
    assert!(stored.starts_with("SCRAM-SHA-256$"), "{stored}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_could_be_sql_is_refused() -> anyhow::Result<()> {
    let database = empty().await?;
    let services = [Migration { service: "x; drop schema alpha", migrator: &BROKEN }];
    assert!(matches!(migrate(&database.url.as_str().into(), &master(), &services).await, Err(Error::Internal(_))));
    Ok(())
}
