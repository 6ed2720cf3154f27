//! What is about Redis itself: servers that die, scripts that are gone, values that somebody else changed.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_redis::redis::cmd;
use weir_testing::PostgresServer;
use weir_types::names;

use crate::billing::{calendar, lifetime, limit, open as opens, rolling};
use crate::house::{House, balance, commit, open, reserve, storm};
use crate::losses::{books_balance_through, limits};

#[tokio::test]
async fn a_killed_redis_oversells_nothing_and_loses_nothing() {
    books_balance_through(House::new().await, 300, async |house| {
        house.redis.kill().await.unwrap();
        sleep(Duration::from_millis(300)).await;
        house.redis.restart().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn both_stores_gone_at_once_oversell_nothing_and_lose_nothing() {
    let server = PostgresServer::start().await.unwrap();
    books_balance_through(House::at(&server).await, 300, async |house| {
        house.redis.kill().await.unwrap();
        server.kill9().await;
        sleep(Duration::from_millis(200)).await;
        house.redis.restart().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        server.restart().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn without_redis_limits_refuse_unless_they_say_otherwise_and_count_later() {
    let house = House::new().await;
    let mut settings = crate::house::settings();
    settings.redis.deadline = Duration::from_millis(100);
    let engine = house.engine_with(settings).await;
    let month = calendar(CalendarUnit::Month);
    let strict = house.tenant(vec![limit("rate", "organization", "request", 10, rolling(60_000))]);
    let lenient = house.tenant(vec![
        opens(limit("rate", "organization", "request", 10, rolling(60_000))),
        opens(limit("tokens", "organization", "token", 1_000, month)),
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
    ]);
    let mut client = engine.client();
    for tenant in [strict, lenient] {
        client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
    }
    house.redis.kill().await.unwrap();
    let failure = open(client.reserve(reserve(strict, &[("request", 1)])).await).unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::Unavailable, Some("redis")));
    // Money never opens.
    assert!(client.reserve(reserve(lenient, &[("request", 1), ("nano_usd", 1)])).await.is_err());
    let request = reserve(lenient, &[("request", 1), ("token", 100)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    house.redis.restart().await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(failure) = open(client.commit(commit(&request, &handle, &[("request", 1), ("token", 70)])).await) {
        assert!(failure.is_transient() && Instant::now() < until, "{failure}");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(balance(&mut client, lenient, "tokens").await.used, 70, "it is on the books");
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_store_that_forgot_its_scripts_but_no_data_goes_on_at_once() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(limits(1_000));
    let mut client = engine.client();
    let epoch = client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap().into_inner().epoch;
    let redis = house.connection().await;
    redis.command::<()>(weir_redis::redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    let answers = storm(&[&engine], 20, async |mut client, _| {
        client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap().into_inner().epoch
    })
    .await;
    assert!(answers.iter().all(|other| *other == epoch));
}

#[tokio::test]
async fn a_counter_that_is_not_what_it_must_be_is_named() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Month)),
        limit("lifetime", "organization", "token", 1_000, lifetime()),
        limit("rate", "organization", "token", 1_000, rolling(60_000)),
    ]);
    let mut client = engine.client();
    let request = reserve(tenant, &[("nano_usd", 100), ("token", 10)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.reserve(reserve(tenant, &[("nano_usd", 50), ("token", 5)])).await.unwrap();
    client.commit(commit(&request, &handle, &[("nano_usd", 70), ("token", 7)])).await.unwrap();
    let status = engine.status().await;
    assert_eq!((status.held, status.expired, status.drifts.len()), (1, 0, 0));
    // Two totals in Postgres; two windows and one rate in the store.
    assert_eq!(status.counters, 5);

    // Somebody changes a counter behind our back.
    let redis = house.connection().await;
    let key = format!("wq3:{{{}}}s", tenant.as_uuid().simple());
    let mut state: Vec<u8> = redis.command(cmd("HGET").arg(&key).arg("o")).await.unwrap();
    let spent = state.windows(8).position(|bytes| bytes == 70_f64.to_le_bytes()).unwrap();
    state[spent..spent + 8].copy_from_slice(&60_f64.to_le_bytes());
    redis.command::<()>(cmd("HSET").arg(&key).arg("o").arg(&state)).await.unwrap();
    let drift = |counter, expected| CounterDrift {
        organization: names::organization(&tenant),
        limit: "budget".to_owned(),
        subject: String::new(),
        counter,
        expected,
    };
    assert_eq!(engine.status().await.drifts, [drift(110, 120)]);

    // Or a total.
    sqlx::query("update quota.counters set committed = 71 where committed = 70")
        .execute(house.database().await.pool())
        .await
        .unwrap();
    assert_eq!(engine.status().await.drifts, [drift(71, 70), drift(110, 121)]);
}
