//! Exactly one process keeps the counters in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::ExtendRequest;
use weir_quota::storage::memory::{Ownership, Store};
use weir_quota::storage::store::Failure;
use weir_types::{ManualClock, SystemClock};

use crate::billing::{lifetime, limit, rolling};
use crate::house::{Engine, House, balance, commit, extension, open, reserve, settings};
use crate::shared::exactly_n_pass;

const CHECK_EVERY: Duration = Duration::from_millis(50);

/// A process's own store, which asks Postgres whose the counters are.
async fn own(house: &House) -> Store {
    let ownership = Ownership::new(house.database().await, CHECK_EVERY);
    Store::new(Arc::new(SystemClock), 1 << 30, Some(ownership))
}

async fn engine(house: &House, store: &Store) -> Engine {
    house.engine_over(store.clone().into(), settings(), Arc::new(SystemClock)).await
}

/// The lock that the owner holds.
const LOCK: i64 = 0x7765_6972_7175_6f74;

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_one_ends() {
    let house = House::new().await;
    let first = own(&house).await;
    first.claim().await.unwrap();
    let owner = engine(&house, &first).await;
    let second = own(&house).await;
    assert_eq!(second.claim().await, Err(Failure::Owned));
    let other = engine(&house, &second).await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 10, rolling(60_000))]);
    let refused = open(other.client().reserve(reserve(tenant, &[("request", 1)])).await).unwrap_err();
    assert_eq!((refused.reason(), refused.metadata("peer")), (ErrorReason::Unavailable, Some("postgres")));
    owner.stop().await;
    drop((owner, first));
    eventually(|| async { other.client().reserve(reserve(tenant, &[("request", 1)])).await.is_ok() }).await;
}

#[tokio::test]
async fn a_lock_that_is_lost_closes_the_limits_until_it_is_regained_and_nothing_is_forgotten() {
    let house = House::new().await;
    let store = own(&house).await;
    let engine = engine(&house, &store).await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 10, rolling(600_000))]);
    let mut client = engine.client();
    let first = open(client.reserve(reserve(tenant, &[("request", 4)])).await).unwrap();
    // Somebody else waits for the lock, and has it as soon as this process's connection ends.
    let admin = sqlx::PgPool::connect(&house.url).await.unwrap();
    let mut rival = admin.begin().await.unwrap();
    let waiting = sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *rival);
    let cut_off = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
                   and database = (select oid from pg_database where datname = current_database())";
    let cutting = async {
        sleep(Duration::from_millis(300)).await;
        sqlx::query(cut_off).execute(&admin).await
    };
    let (waited, cut) = tokio::join!(waiting, cutting);
    waited.unwrap();
    cut.unwrap();
    eventually(|| async { store.ping().is_err() }).await;
    assert!(client.reserve(reserve(tenant, &[("request", 1)])).await.is_err());
    // It never began a generation, so this process's counters are still all that was ever counted.
    rival.rollback().await.unwrap();
    eventually(|| async { store.ping().is_ok() }).await;
    let second = open(client.reserve(reserve(tenant, &[("request", 6)])).await).unwrap();
    assert_eq!(second.epoch, first.epoch);
    assert_eq!(balance(&mut client, tenant, "rate").await.used, 10);
}

#[tokio::test]
async fn what_another_process_has_counted_meanwhile_is_loaded_and_live_leases_are_announced() {
    let house = House::new().await;
    let store = own(&house).await;
    let before = engine(&house, &store).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let mut client = before.client();
    let spent = reserve(tenant, &[("nano_usd", 30)]);
    let handle = open(client.reserve(spent.clone()).await).unwrap();
    client.commit(commit(&spent, &handle, &[("nano_usd", 20)])).await.unwrap();
    let alive = reserve(tenant, &[("nano_usd", 50)]);
    let handle = open(client.reserve(alive.clone()).await).unwrap();

    // The process ends, another one begins.
    before.stop().await;
    drop((client, before, store));
    let store = own(&house).await;
    store.claim().await.unwrap();
    let after = engine(&house, &store).await;
    let mut client = after.client();
    let closed = open(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
    assert_eq!(closed.reason(), ErrorReason::Rebuilding);
    let leases = vec![extension(&alive, &handle, 30)];
    let answer = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
    assert_eq!(answer.outcomes, [2], "announced");
    sleep(closed.retry_after().unwrap()).await;
    let too_much = open(client.reserve(reserve(tenant, &[("nano_usd", 31)])).await).unwrap_err();
    assert_eq!(too_much.reason(), ErrorReason::BudgetExhausted, "20 spent and 50 held of 100");
    open(client.reserve(reserve(tenant, &[("nano_usd", 30)])).await).unwrap();
    client.commit(commit(&alive, &handle, &[("nano_usd", 50)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 100);
}

#[tokio::test]
async fn a_clock_that_goes_back_or_leaps_frees_nothing_early() {
    let house = House::new().await;
    let now = chrono::Utc::now();
    let clock = Arc::new(ManualClock::new(now));
    let store = Store::new(Arc::<ManualClock>::clone(&clock), 1 << 30, None);
    let engine = house.engine_over(store.into(), settings(), Arc::<ManualClock>::clone(&clock)).await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 3, rolling(60_000))]);
    let mut client = engine.client();
    for (seconds, fits) in [(0, true), (59, true), (30, true), (30, false), (59, false), (61, true), (118, false)] {
        clock.set(now + chrono::TimeDelta::seconds(seconds));
        let answer = client.reserve(reserve(tenant, &[("request", 1)])).await;
        assert_eq!(answer.is_ok(), fits, "at {seconds} s");
    }
}

#[tokio::test]
async fn a_store_that_is_full_refuses_and_settles() {
    let house = House::new().await;
    let store = Store::new(Arc::new(SystemClock), 200_000, None);
    let engine = house.engine_over(store.into(), settings(), Arc::new(SystemClock)).await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 1 << 40, rolling(60_000))]);
    let mut client = engine.client();
    let mut admitted = Vec::new();
    let failure = loop {
        let request = reserve(tenant, &[("request", 1)]);
        match open(client.reserve(request.clone()).await) {
            Ok(handle) => admitted.push((request, handle)),
            Err(failure) => break failure,
        }
        assert!(admitted.len() < 5_000);
    };
    assert_eq!(failure.reason(), ErrorReason::Overloaded);
    assert!(admitted.len() > 100, "{}", admitted.len());
    for (request, handle) in &admitted {
        client.commit(commit(request, handle, &[("request", 1)])).await.unwrap();
    }
    client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
}

#[tokio::test]
async fn limits_across_tenants_hold_exactly_in_memory_too() {
    exactly_n_pass(1, 1, "token", "rolling = '60s'", 99, 7).await;
    exactly_n_pass(1, 1, "nano_usd", "calendar = 'month'", 150, 1_000_003).await;
    exactly_n_pass(1, 1, "concurrent", "concurrent = true", 25, 1).await;
}

async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < until, "it never came true");
        sleep(Duration::from_millis(20)).await;
    }
}
