use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};
use weir_testing::{PostgresServer, database, postgres};

static BUILDS: AtomicU32 = AtomicU32::new(0);

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(client: &Client) -> anyhow::Result<i64> {
    Ok(client.query_one("select count(*) from thing", &[]).await?.get(0))
}

async fn things() -> anyhow::Result<weir_testing::TestDatabase> {
    database("things", async |url: String| {
        BUILDS.fetch_add(1, Ordering::SeqCst);
        let client = connect(&url).await?;
        Ok(client.batch_execute("create table thing (id int primary key); insert into thing values (1)").await?)
    })
    .await
}

#[tokio::test]
async fn each_test_gets_a_copy_of_its_own() -> anyhow::Result<()> {
    let (one, other) = tokio::try_join!(things(), things())?;
    assert_ne!(one.name, other.name);
    let (first, second) = (connect(&one.url).await?, connect(&other.url).await?);
    first.execute("insert into thing values (2)", &[]).await?;
    assert_eq!(count(&first).await?, 2);
    assert_eq!(count(&second).await?, 1);
    // With nextest the template may come from an earlier run of this program.
    assert!(BUILDS.load(Ordering::SeqCst) <= 1);
    Ok(())
}

#[tokio::test]
async fn a_database_goes_with_its_test() -> anyhow::Result<()> {
    let admin = connect(postgres().await?.url()).await?;
    let name = {
        let database = things().await?;
        // Held open, as by a pool that nobody closed.
        let _client = connect(&database.url).await?;
        database.name.clone()
    };
    let found = admin.query_opt("select from pg_database where datname = $1", &[&name]).await?;
    assert!(found.is_none());
    Ok(())
}

#[tokio::test]
async fn a_template_that_could_not_be_built_is_built_again() -> anyhow::Result<()> {
    let broken = database("broken", async |_| anyhow::bail!("no luck")).await;
    let error = broken.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error.contains("no luck"), "{error}");
    let built = database("broken", async |url: String| {
        Ok(connect(&url).await?.batch_execute("create table thing (id int primary key)").await?)
    })
    .await?;
    assert_eq!(count(&connect(&built.url).await?).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_killed_postgres_comes_back_with_what_it_acknowledged() -> anyhow::Result<()> {
    let server = PostgresServer::start().await?;
    let client = connect(server.url()).await?;
    client.batch_execute("create table thing (id int primary key); insert into thing values (1)").await?;
    server.kill9().await;
    // The sessions notice within moments that their parent is gone.
    let until = Instant::now() + Duration::from_secs(60);
    while client.query_one("select 1", &[]).await.is_ok() {
        anyhow::ensure!(Instant::now() < until, "the server survived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.restart().await?;
    assert_eq!(count(&connect(server.url()).await?).await?, 1);
    Ok(())
}
