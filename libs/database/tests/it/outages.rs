use std::time::{Duration, Instant};

use sqlx::Connection as _;
use tokio::net::TcpListener;
use weir_database::{Database, Error, copy};

use crate::config;

#[tokio::test]
async fn a_refused_connection_is_unavailable_in_time() -> anyhow::Result<()> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut config = config(format!("postgres://weir@127.0.0.1:{port}/weir").into());
    config.acquire_timeout = Duration::from_millis(300);
    let started = Instant::now();
    // Starting is not refused: the server may come later.
    let database = Database::connect(&config, "alpha").await?;
    assert!(matches!(database.begin().await, Err(Error::Unavailable(_))));
    assert!(matches!(database.ping().await, Err(Error::Unavailable(_))));
    let pool = copy::deadpool(&config, "alpha")?;
    let refused = pool.get().await.map(drop).map_err(Error::from);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_unavailable_in_time() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut config = config(format!("postgres://weir@{}/weir", listener.local_addr()?).into());
    config.acquire_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let database = Database::connect(&config, "alpha").await?;
    assert!(matches!(database.begin().await, Err(Error::Unavailable(_))));
    assert!(matches!(database.ping().await, Err(Error::Unavailable(_))));
    let refused = copy::deadpool(&config, "alpha")?.get().await.map(drop).map_err(Error::from);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_refused_login_stops_the_start() -> anyhow::Result<()> {
    let mut url = url::Url::parse(weir_testing::postgres().await?.url())?;
    url.set_username("nobody_of_this_name").expect("a URL with a host");
    let refused = Database::connect(&config(String::from(url).into()), "alpha").await;
    assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn connections_that_the_server_ended_are_passed_over() -> anyhow::Result<()> {
    let database = crate::migrated().await?;
    let alpha = crate::alpha(&database).await?;
    let held = futures::future::try_join_all((0..4).map(|_| alpha.begin())).await?;
    for transaction in held {
        transaction.commit().await?;
    }
    let mut admin = sqlx::PgConnection::connect(&database.url).await?;
    let ended: Vec<bool> =
        sqlx::query_scalar("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1")
            .bind("weir-alpha")
            .fetch_all(&mut admin)
            .await?;
    assert!(ended.len() >= 4 && ended.iter().all(|ended| *ended), "{ended:?}");
    alpha.begin().await?.commit().await?;
    Ok(())
}

#[tokio::test]
async fn transactions_work_again_after_the_server_was_killed() -> anyhow::Result<()> {
    let server = weir_testing::PostgresServer::start().await?;
    let config = config(server.url().into());
    let database = Database::connect(&config, "alpha").await?;
    let pool = copy::deadpool(&config, "alpha")?;
    pool.get().await.map_err(Error::from)?.batch_execute("select 1").await?;
    // Several pooled connections, all of which will be dead.
    let held = futures::future::try_join_all((0..4).map(|_| database.begin())).await?;
    for transaction in held {
        transaction.commit().await?;
    }
    let mut open = database.begin().await?;
    server.kill9().await;
    let until = Instant::now() + Duration::from_secs(60);
    let lost = loop {
        match sqlx::query("select 1").execute(&mut *open).await {
            Ok(_) => anyhow::ensure!(Instant::now() < until, "the server survived"),
            Err(error) => break Error::from(error),
        }
    };
    assert!(matches!(lost, Error::Unavailable(_)), "{lost:?}");
    drop(open);
    assert!(matches!(database.begin().await, Err(Error::Unavailable(_))));
    server.restart().await?;
    // The very first try: dead connections of the pool are passed over.
    database.begin().await?.commit().await?;
    database.ping().await?;
    pool.get().await.map_err(Error::from)?.batch_execute("select 1").await?;
    Ok(())
}
