//! What comes between the steps of a settlement: a Reserve, or a loss of the fast store.

use std::time::Duration;

use sqlx::{Postgres, Transaction};
use tokio::time::{Instant, sleep};
use weir_database::Database;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::{OrganizationId, ReservationId};

use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, Engine, House, balance, commit, open, release, reserve};
use crate::relay::Relay;
use crate::shared::{one, shared};

const DAY: i64 = 86_400_000;

fn tenant(house: &House) -> OrganizationId {
    house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
        limit("spent-per-day", "organization", "nano_usd", 1_000, rolling(DAY)),
        limit("tokens", "organization", "token", 1_000, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 3, concurrent()),
    ])
}

const ASKED: &[(&str, i64)] = &[("nano_usd", 100), ("token", 10), ("concurrent", 1)];

/// Used and held of each limit, and of the one across tenants.
async fn counted(client: &mut Client, tenant: OrganizationId) -> [(i64, i64); 5] {
    let mut states = [(0, 0); 5];
    for (state, name) in states.iter_mut().zip(["budget", "spent-per-day", "all", "tokens", "at-once"]) {
        let limit = balance(client, tenant, name).await;
        *state = (limit.used, limit.held);
    }
    states
}

/// Asked again until it is not transient any more.
async fn reserved(client: &mut Client, request: &ReserveRequest) -> ReserveResponse {
    loop {
        match open(client.reserve(request.clone()).await) {
            Ok(handle) => return handle,
            Err(failure) => assert!(failure.is_transient(), "{failure}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asked again until it is answered.
async fn committed(engine: &Engine, request: &ReserveRequest, handle: &ReserveResponse) {
    while let Err(failure) = open(engine.client().commit(commit(request, handle, ASKED)).await) {
        assert!(failure.is_transient(), "{failure}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn id_of(request: &ReserveRequest) -> ReservationId {
    request.reservation_id.parse().unwrap()
}

/// Lets nobody write settlements until it is dropped; they can be read.
async fn block(database: &Database) -> Transaction<'static, Postgres> {
    let mut transaction = database.pool().begin().await.unwrap();
    sqlx::query("lock table quota.settlements in exclusive mode").execute(&mut *transaction).await.unwrap();
    transaction
}

/// Lets nobody write a settlement of this reservation until it is rolled back.
async fn block_one(database: &Database, id: ReservationId) -> Transaction<'static, Postgres> {
    let mut transaction = database.pool().begin().await.unwrap();
    let query =
        "insert into quota.settlements (reservation_id, organization_id, released, estimated, amounts, batch, handle)
        values ($1, $1, true, false, '{}', $1, '')";
    sqlx::query(query).bind(id.as_uuid()).execute(&mut *transaction).await.unwrap();
    transaction
}

/// Until somebody waits for a lock of this kind.
async fn until_blocked(database: &Database, kind: &str) {
    let query = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and wait_event = $1";
    let until = Instant::now() + Duration::from_secs(60);
    while sqlx::query_scalar::<_, i64>(query).bind(kind).fetch_one(database.pool()).await.unwrap() == 0 {
        assert!(Instant::now() < until, "nobody waits for a lock of this kind: {kind}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Until a settlement is committed, whether or not anybody was told.
async fn until_written(database: &Database, id: ReservationId) {
    let query = "select count(*) from quota.settlements where reservation_id = $1";
    while sqlx::query_scalar::<_, i64>(query).bind(id.as_uuid()).fetch_one(database.pool()).await.unwrap() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

/// With a budget of all tenants together in a long rolling window.
async fn engine(house: &House) -> Engine {
    house.engine_with(shared(&one("all", "product", "nano_usd", "'0.000001'", "rolling = '24h'"))).await
}

async fn two_engines(house: &mut House) -> (Relay, Engine, Engine) {
    let two = engine(house).await;
    let relay = Relay::start(&house.url).await;
    let url = std::mem::replace(&mut house.url, relay.url().to_owned());
    let one = engine(house).await;
    house.url = url;
    (relay, one, two)
}

#[tokio::test]
async fn a_release_without_a_handle_that_races_its_reserve_gives_back_what_that_holds() {
    let house = House::new().await;
    let (engine, database, tenant) = (engine(&house).await, house.database().await, tenant(&house));
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let blocked = block(&database).await;
    let mut releasing = engine.client();
    let releasing = releasing.release(release(&request, &ReserveResponse::default()));
    let reserving = async {
        // Looked for and not found; now it is there.
        until_blocked(&database, "relation").await;
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        drop(blocked);
        handle
    };
    let (released, handle) = tokio::join!(releasing, reserving);
    assert!(!released.unwrap().into_inner().duplicate);
    assert_eq!(counted(&mut client, tenant).await, [(0, 0); 5]);
    engine.assert_balanced().await;
    let failure = open(client.commit(commit(&request, &handle, ASKED)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ReservationReleased, "{failure}");
}

#[tokio::test]
async fn a_commit_that_a_loss_overtakes_after_it_was_written_counts_once() {
    let mut house = House::new().await;
    let (relay, one, two) = two_engines(&mut house).await;
    let (database, tenant) = (house.database().await, tenant(&house));
    let (mut client, mut other) = (one.client(), two.client());
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    relay.keep_answers_about(id_of(&request));
    let losing = async {
        until_written(&database, id_of(&request)).await;
        house.lose().await;
        // Its counters are loaded from books that have the settlement.
        reserved(&mut other, &reserve(tenant, ASKED)).await;
        relay.let_go();
    };
    tokio::join!(committed(&one, &request, &handle), losing);
    assert_eq!(counted(&mut other, tenant).await[..4], [(200, 100), (200, 100), (200, 100), (10, 10)]);
    assert_eq!(two.status().await.drifts, []);
}

#[tokio::test]
async fn a_commit_that_a_loss_overtakes_before_it_is_written_counts_once() {
    let mut house = House::new().await;
    let (_relay, one, two) = two_engines(&mut house).await;
    let (database, tenant) = (house.database().await, tenant(&house));
    let (mut client, mut other) = (one.client(), two.client());
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let blocked = block_one(&database, id_of(&request)).await;
    let losing = async {
        until_blocked(&database, "transactionid").await;
        house.lose().await;
        let next = reserve(tenant, ASKED);
        let reserving = reserved(&mut other, &next);
        let letting_go = async {
            // Nobody reads the books before the commit is on them.
            until_blocked(&database, "advisory").await;
            blocked.rollback().await.unwrap();
        };
        tokio::join!(reserving, letting_go).0
    };
    tokio::join!(committed(&one, &request, &handle), losing);
    assert_eq!(counted(&mut other, tenant).await[..4], [(200, 100), (200, 100), (200, 100), (10, 10)]);
    assert_eq!(two.status().await.drifts, []);
}

#[tokio::test]
async fn a_commit_that_comes_to_the_books_after_they_were_read_for_another_generation_is_counted_there_first() {
    let mut house = House::new().await;
    let (relay, one, two) = two_engines(&mut house).await;
    let tenant = tenant(&house);
    let (mut client, mut other) = (one.client(), two.client());
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    // The statement itself is on its way for as long as it takes to begin another generation.
    relay.keep_statements_about(id_of(&request));
    let losing = async {
        relay.until_kept().await;
        house.lose().await;
        reserved(&mut other, &reserve(tenant, ASKED)).await;
        relay.let_go();
    };
    tokio::join!(committed(&one, &request, &handle), losing);
    assert_eq!(counted(&mut other, tenant).await[..3], [(200, 100); 3]);
    assert_eq!(two.status().await.drifts, []);
}

/// Used and held of the limit across tenants.
async fn across(client: &mut Client, tenant: OrganizationId) -> (i64, i64) {
    let all = balance(client, tenant, "all").await;
    (all.used, all.held)
}

#[tokio::test]
async fn across_tenants_what_comes_to_the_books_late_is_counted_in_the_next_generation() {
    let mut house = House::new().await;
    let (relay, one, two) = two_engines(&mut house).await;
    // Without limits of its own.
    let tenant = house.tenant(Vec::new());
    let (mut client, mut other) = (one.client(), two.client());
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    relay.keep_statements_about(id_of(&request));
    let losing = async {
        relay.until_kept().await;
        house.lose().await;
        reserved(&mut other, &reserve(tenant, ASKED)).await;
        relay.let_go();
    };
    tokio::join!(committed(&one, &request, &handle), losing);
    assert_eq!(across(&mut other, tenant).await, (200, 100));
    assert_eq!(two.status().await.drifts, []);
}

#[tokio::test]
async fn across_tenants_what_is_settled_before_its_account_is_loaded_counts_once() {
    let house = House::new().await;
    let engine = engine(&house).await;
    let tenant = house.tenant(Vec::new());
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    house.lose().await;
    committed(&engine, &request, &handle).await;
    assert_eq!(across(&mut client, tenant).await, (100, 0));
    engine.assert_balanced().await;
}

/// What was held must be in the account before it is settled: whoever repeats the settlement can't know in which generation it was
/// written.
#[tokio::test]
async fn a_commit_after_a_loss_whose_process_dies_counts_across_tenants_when_it_is_repeated() {
    let mut house = House::new().await;
    let (relay, one, two) = two_engines(&mut house).await;
    let (database, alice, bob) = (house.database().await, house.tenant(Vec::new()), house.tenant(Vec::new()));
    let mut other = two.client();
    let request = reserve(alice, ASKED);
    let handle = one.client().reserve(request.clone()).await.unwrap().into_inner();
    house.lose().await;
    // Open again.
    let first = reserve(bob, &[("nano_usd", 1)]);
    let firsts = reserved(&mut other, &first).await;
    other.release(release(&first, &firsts)).await.unwrap();

    let blocked = block_one(&database, id_of(&request)).await;
    let dying = {
        let (mut client, commit) = (one.client(), commit(&request, &handle, ASKED));
        tokio::spawn(async move { client.commit(commit).await })
    };
    until_blocked(&database, "transactionid").await;
    relay.keep_answers();
    drop(blocked);
    until_written(&database, id_of(&request)).await;
    drop((one, relay));
    dying.abort();
    committed(&two, &request, &handle).await;
    let all = balance(&mut other, bob, "all").await;
    assert_eq!((all.used, all.held), (100, 0));
    assert_eq!(two.status().await.drifts, []);
}
