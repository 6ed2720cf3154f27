//! While the store does not answer, each process admits a share of the limits that say so.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::OrganizationId;

use crate::billing::{calendar, lifetime, limit, local, open as opens, rolling};
use crate::explaining::{about, explain, explain_with, figures, of, settled};
use crate::house::{Client, Engine, House, Settings, balance, commit, extension, open, reserve, settings};

fn short() -> Settings {
    let mut settings = settings();
    settings.redis.deadline = Duration::from_millis(100);
    settings
}

/// With room for 5 requests and 5,000 tokens in each process.
fn tenant(house: &House) -> OrganizationId {
    house.tenant(vec![
        local(limit("rate", "organization", "request", 100, rolling(600_000))),
        local(limit("tokens", "organization", "token", 100_000, calendar(CalendarUnit::Month))),
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
    ])
}

async fn admitted(engine: &Engine, tenant: OrganizationId, asks: usize) -> Vec<(ReserveRequest, ReserveResponse)> {
    let mut held = Vec::new();
    for _ in 0..asks {
        let request = reserve(tenant, &[("request", 1), ("token", 10)]);
        match open(engine.client().reserve(request.clone()).await) {
            Ok(handle) => held.push((request, handle)),
            Err(failure) => {
                assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::Unavailable, Some("redis")));
                assert!(failure.retry_after().is_some());
            }
        }
    }
    held
}

async fn used(client: &mut Client, tenant: OrganizationId) -> (i64, i64) {
    (balance(client, tenant, "rate").await.used, balance(client, tenant, "tokens").await.used)
}

/// Announces until the store answers again.
/// Asks until there is an answer: on a busy machine a tenth of a second may be too short for it.
async fn patiently<T>(call: impl AsyncFn() -> Result<tonic::Response<T>, tonic::Status>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match open(call().await) {
            Ok(answer) => return answer,
            Err(failure) => assert!(failure.is_transient() && Instant::now() < until, "{failure}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn announce(engine: &Engine, held: &[(ReserveRequest, ReserveResponse)]) {
    let leases: Vec<_> = held.iter().map(|(request, handle)| extension(request, handle, 30)).collect();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match open(engine.client().extend(ExtendRequest { leases: leases.clone() }).await) {
            Ok(_) => return,
            Err(failure) => assert!(failure.is_transient() && Instant::now() < until, "{failure}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn with_a_killed_store_each_process_admits_its_share_and_all_of_it_counts_later() {
    let house = House::new().await;
    let (one, two) = (house.engine_with(short()).await, house.engine_with(short()).await);
    let tenant = tenant(&house);
    for engine in [&one, &two] {
        assert_eq!(admitted(engine, tenant, 1).await.len(), 1);
    }
    house.redis.kill().await.unwrap();
    let mut held = Vec::new();
    for engine in [&one, &two] {
        let here = admitted(engine, tenant, 8).await;
        assert_eq!(here.len(), 5, "5 % of 100");
        held.extend(here);
    }
    // Money is closed, whatever is beside it.
    let money = reserve(tenant, &[("token", 1), ("nano_usd", 1)]);
    assert!(one.client().reserve(money).await.is_err());
    // And a share is a share of each limit.
    let large = reserve(tenant, &[("token", 4_951)]);
    assert!(two.client().reserve(large).await.is_err());

    house.redis.restart().await.unwrap();
    announce(&one, &held).await;
    sleep(Duration::from_millis(1_100)).await;
    let mut client = two.client();
    // The two from before are unknown to a store that lost them, until they are announced.
    assert_eq!(used(&mut client, tenant).await, (10, 100));
    for (request, handle) in &held {
        patiently(async || client.clone().commit(commit(request, handle, &[("request", 1), ("token", 7)])).await).await;
    }
    assert_eq!(used(&mut client, tenant).await, (10, 70));
    one.assert_balanced().await;
    // The share is not given back: a store that comes and goes does not multiply it.
    house.redis.kill().await.unwrap();
    assert_eq!(admitted(&one, tenant, 2).await.len(), 0);
}

#[tokio::test]
async fn with_a_store_that_hangs_a_decision_takes_its_deadline_and_no_more() {
    let house = House::new().await;
    let engine = house.engine_with(short()).await;
    let tenant = tenant(&house);
    assert_eq!(admitted(&engine, tenant, 1).await.len(), 1);
    let redis = house.connection().await;
    let info: String = redis.command(weir_redis::redis::cmd("INFO").arg("server")).await.unwrap();
    let process = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim().to_owned();
    let signal = |signal: &str| {
        assert!(std::process::Command::new("kill").args([signal, &process]).status().unwrap().success());
    };
    signal("-STOP");
    let held = admitted(&engine, tenant, 8).await;
    signal("-CONT");
    assert_eq!(held.len(), 5);

    // The same process goes on with the same store. It may meanwhile have done what it was told while it hung: the ids are the
    // same, so nothing counts twice. What was refused here and held there gives its lease back when it ends.
    announce(&engine, &held).await;
    let mut client = engine.client();
    for (request, handle) in &held {
        patiently(async || client.clone().reserve(request.clone()).await).await;
        patiently(async || client.clone().commit(commit(request, handle, &[("request", 1), ("token", 7)])).await).await;
    }
    let tokens = balance(&mut client, tenant, "tokens").await;
    assert_eq!(tokens.used - tokens.held, 35, "each was charged once");
    assert_eq!(engine.status().await.drifts, []);
}

#[tokio::test]
async fn without_redis_the_past_is_explained_and_what_was_admitted_meanwhile_says_so() {
    let house = House::new().await;
    let mut settings = settings();
    settings.redis.deadline = Duration::from_millis(100);
    let engine = house.engine_with(settings).await;
    let month = calendar(CalendarUnit::Month);
    let tenant = house.tenant(vec![
        opens(limit("tokens", "organization", "token", 1_000, month)),
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
    ]);
    let mut client = engine.client();
    settled(&mut client, &reserve(tenant, &[("token", 10)]), &[("token", 10)]).await;
    house.redis.kill().await.unwrap();
    client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap_err();
    let request = reserve(tenant, &[("token", 20)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let answer = explain_with(&engine, of(tenant), 2).await;
    let states: Vec<_> = answer.decisions.iter().map(Decision::state).collect();
    assert_eq!(states, [DecisionState::Refused, DecisionState::Committed]);
    assert_eq!(answer.decisions[0].reason(), ErrorReason::Unavailable);
    assert_eq!(
        answer.missing,
        ["who holds what: redis is not available", "what is left of the limits: redis is not available"]
    );

    house.redis.restart().await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let leases = vec![extension(&request, &handle, 30)];
    while client.extend(ExtendRequest { leases: leases.clone() }).await.is_err() {
        assert!(Instant::now() < until, "never announced");
        sleep(Duration::from_millis(50)).await;
    }
    let answer = explain(&engine, about(&request.reservation_id)).await;
    assert!(answer.holders[0].without_store);
    let limit = figures(&answer.holders[0].limits[0]);
    assert_eq!(limit, ("tokens", 20, Some(1_000), None, None));
}
