//! What comes between the steps of a settlement.

use std::time::Duration;

use sqlx::{Postgres, Transaction};
use tokio::time::sleep;
use weir_database::Database;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::OrganizationId;

use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, House, balance, commit, open, release, reserve};

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

/// Used and held of each limit.
async fn counted(client: &mut Client, tenant: OrganizationId) -> [(i64, i64); 4] {
    let mut states = [(0, 0); 4];
    for (state, name) in states.iter_mut().zip(["budget", "spent-per-day", "tokens", "at-once"]) {
        let limit = balance(client, tenant, name).await;
        *state = (limit.used, limit.held);
    }
    states
}

/// Lets nobody write settlements until it is dropped; they can be read.
async fn block(database: &Database) -> Transaction<'static, Postgres> {
    let mut transaction = database.pool().begin().await.unwrap();
    sqlx::query("lock table quota.settlements in exclusive mode").execute(&mut *transaction).await.unwrap();
    transaction
}

/// Until a settlement waits for who blocks it.
async fn until_blocked(database: &Database) {
    let query = "select count(*) from pg_locks where not granted and relation = 'quota.settlements'::regclass";
    while sqlx::query_scalar::<_, i64>(query).fetch_one(database.pool()).await.unwrap() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_release_without_a_handle_that_races_its_reserve_gives_back_what_that_holds() {
    let house = House::new().await;
    let (engine, database, tenant) = (house.engine().await, house.database().await, tenant(&house));
    let mut client = engine.client();
    let request = reserve(tenant, ASKED);
    let blocked = block(&database).await;
    let mut releasing = engine.client();
    let releasing = releasing.release(release(&request, &ReserveResponse::default()));
    let reserving = async {
        // Looked for and not found; now it is there.
        until_blocked(&database).await;
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        drop(blocked);
        handle
    };
    let (released, handle) = tokio::join!(releasing, reserving);
    assert!(!released.unwrap().into_inner().duplicate);
    assert_eq!(counted(&mut client, tenant).await, [(0, 0); 4]);
    engine.assert_balanced().await;
    let failure = open(client.commit(commit(&request, &handle, ASKED)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ReservationReleased, "{failure}");
}
