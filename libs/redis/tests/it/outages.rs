use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt as _, net::TcpListener, time::sleep};
use weir_redis::{Error, Redis, Script};

use crate::{config, connect, get};

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(20);

async fn until_it_answers(redis: &Redis) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while redis.ping().await.is_err() {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(10), "redis does not come back");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(started.elapsed())
}

#[tokio::test]
async fn calls_fail_in_time_while_the_server_is_dead_and_work_when_it_is_back() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    let none: [&str; 0] = [];
    let first: i64 = redis.run(&script, &["key"], &none).await?;
    assert_eq!(first, 1);
    for _ in 0..2 {
        server.kill().await?;
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            let started = Instant::now();
            let answer: Result<i64, _> = redis.run(&script, &["key"], &none).await;
            assert_eq!(answer, Err(Error::Unavailable));
            assert!(started.elapsed() < config("").deadline + SLACK, "{:?}", started.elapsed());
        }
        assert!(!redis.is_up());
        server.restart().await?;
        let waited = until_it_answers(&redis).await?;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        let again: i64 = redis.run(&script, &["key"], &none).await?;
        assert_eq!(again, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_makes_no_call_late() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let limit = config("").deadline + SLACK;
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let redis = redis.clone();
            tokio::spawn(async move {
                let (mut good, mut bad, mut slowest) = (0, 0, Duration::ZERO);
                let until = Instant::now() + Duration::from_millis(1500);
                while Instant::now() < until {
                    let started = Instant::now();
                    match redis.command::<Option<String>>(&get("key")).await {
                        Ok(_) => good += 1,
                        Err(_) => {
                            bad += 1;
                            // Failing is immediate; a caller in a loop would take all of the processor.
                            sleep(Duration::from_millis(5)).await;
                        }
                    }
                    slowest = slowest.max(started.elapsed().saturating_sub(Duration::from_millis(5)));
                }
                (good, bad, slowest)
            })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    server.kill().await?;
    sleep(Duration::from_millis(400)).await;
    server.restart().await?;
    for caller in callers {
        let (good, bad, slowest) = caller.await?;
        assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
        assert!(slowest < limit, "{slowest:?}");
    }
    until_it_answers(&redis).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_stalls_makes_calls_time_out() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    server.pause(Duration::from_millis(1500)).await?;
    let started = Instant::now();
    let answer = redis.command::<Option<String>>(&get("key")).await;
    assert_eq!(answer, Err(Error::Timeout));
    assert!(started.elapsed() < config("").deadline + SLACK, "{:?}", started.elapsed());
    // After some silence the connections are given up, and callers no longer wait for the deadline.
    sleep(Duration::from_millis(1)).await;
    let until = Instant::now() + Duration::from_millis(1000);
    while Instant::now() < until {
        let started = Instant::now();
        assert!(redis.command::<Option<String>>(&get("key")).await.is_err());
        assert!(started.elapsed() < config("").deadline + SLACK, "{:?}", started.elapsed());
    }
    let waited = until_it_answers(&redis).await?;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    Ok(())
}

#[tokio::test]
async fn a_short_stall_costs_timeouts_but_not_the_connection() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let id: i64 = redis.command(redis::cmd("CLIENT").arg("ID")).await?;
    redis.ping().await?;
    server.pause(Duration::from_millis(400)).await?;
    assert_eq!(redis.command::<Option<String>>(&get("key")).await, Err(Error::Timeout));
    sleep(Duration::from_millis(300)).await;
    until_it_answers(&redis).await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(redis.command::<i64>(redis::cmd("CLIENT").arg("ID")).await?);
    }
    assert!(ids.contains(&id), "{id} is not among {ids:?}");
    Ok(())
}

#[tokio::test]
async fn a_missing_server_does_not_hold_up_the_start() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    server.kill().await?;
    let started = Instant::now();
    let redis = connect(server.url()).await?;
    assert!(started.elapsed() < SLACK, "{:?}", started.elapsed());
    assert_eq!(redis.ping().await, Err(Error::Unavailable));
    server.restart().await?;
    until_it_answers(&redis).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_down() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}/", listener.local_addr()?);
    let mute = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            streams.push(tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
            }));
        }
    });
    let started = Instant::now();
    let redis = connect(&url).await?;
    assert!(started.elapsed() < SLACK, "{:?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(redis.ping().await, Err(Error::Unavailable));
    assert!(started.elapsed() < config("").deadline + SLACK, "{:?}", started.elapsed());
    mute.abort();
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_running_when_the_last_handle_is_dropped() -> anyhow::Result<()> {
    let server = Arc::new(weir_testing::private_redis().await?);
    let observer = connect(server.url()).await?;
    let redis = connect(server.url()).await?;
    let count = async || -> anyhow::Result<usize> {
        let clients: String = observer.command(redis::cmd("CLIENT").arg("LIST")).await?;
        Ok(clients.lines().count())
    };
    let with = count().await?;
    drop(redis.clone());
    redis.ping().await?;
    drop(redis);
    let until = Instant::now() + Duration::from_secs(60);
    while count().await? != with - 2 {
        anyhow::ensure!(Instant::now() < until, "the connections stay open");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
