use std::time::{Duration, Instant};

use redis::{AsyncTypedCommands as _, aio::MultiplexedConnection};

async fn connect(url: &str) -> anyhow::Result<MultiplexedConnection> {
    // Without the client's own limits, which a busy machine exceeds.
    let config = redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

#[tokio::test]
async fn callers_do_not_see_each_others_keys() -> anyhow::Result<()> {
    let (one, other) = tokio::try_join!(weir_testing::redis(), weir_testing::redis())?;
    let (mut first, mut second) = (connect(one.url()).await?, connect(other.url()).await?);
    first.set("key", "value").await?;
    assert_eq!(second.get("key").await?, None);
    second.set("key", "other").await?;
    one.flush().await?;
    assert_eq!(first.get("key").await?, None);
    assert_eq!(second.get("key").await?.as_deref(), Some("other"));
    Ok(())
}

#[tokio::test]
async fn a_killed_redis_is_gone_until_it_is_started_again() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    connect(server.url()).await?.set("key", "value").await?;
    server.kill().await?;
    assert!(connect(server.url()).await.is_err());
    server.restart().await?;
    assert_eq!(connect(server.url()).await?.get("key").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_paused_redis_answers_nobody_for_a_while() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let mut connection = connect(server.url()).await?;
    server.pause(Duration::from_millis(300)).await?;
    let started = Instant::now();
    connection.get("key").await?;
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    Ok(())
}
