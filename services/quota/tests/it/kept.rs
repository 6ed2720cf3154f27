//! A store that comes back with its data is another generation all the same: what it kept may be older than what was answered.

use weir_proto::quota::v1::*;
use weir_redis::redis::cmd;
use weir_types::OrganizationId;

use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, House, balance, commit, extension, release, reserve};

/// What a restart with an append-only file, or a fail-over, looks like to clients: the same data on another server, which knows no
/// script.
async fn come_back_with_data(house: &House) {
    let redis = house.connection().await;
    let epochs: Vec<String> = redis.command(cmd("KEYS").arg("*:epoch")).await.unwrap();
    redis.command::<()>(cmd("HSET").arg(&epochs[0]).arg("server").arg("the one before")).await.unwrap();
    redis.command::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
}

/// A rate, which only the store counts, beside what Postgres knows too.
fn tenant(house: &House) -> OrganizationId {
    house.tenant(vec![
        limit("a-rate", "organization", "request", 1_000, rolling(60_000)),
        limit("in-a-day", "organization", "token", 1_000, rolling(86_400_000)),
        limit("ever", "organization", "nano_usd", 1_000, lifetime()),
        limit("at-once", "organization", "concurrent", 10, concurrent()),
    ])
}

const ASKED: [(&str, i64); 4] = [("request", 1), ("token", 50), ("nano_usd", 50), ("concurrent", 1)];

async fn used_and_held(client: &mut Client, tenant: OrganizationId) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    for limit in ["a-rate", "in-a-day", "ever", "at-once"] {
        let state = balance(client, tenant, limit).await;
        all.push((state.used, state.held));
    }
    all
}

#[tokio::test]
async fn what_is_announced_to_a_store_that_kept_it_counts_once() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = tenant(&house);
    let mut client = engine.client();
    let spent = reserve(tenant, &ASKED);
    let handle = client.reserve(spent.clone()).await.unwrap().into_inner();
    client.commit(commit(&spent, &handle, &ASKED[..3])).await.unwrap();
    let alive = reserve(tenant, &ASKED);
    let handle = client.reserve(alive.clone()).await.unwrap().into_inner();
    let before = used_and_held(&mut client, tenant).await;
    assert_eq!(before[1..], [(100, 50), (100, 50), (1, 1)]);

    come_back_with_data(&house).await;
    let leases = vec![extension(&alive, &handle, 30)];
    client.extend(ExtendRequest { leases }).await.unwrap();
    assert_eq!(used_and_held(&mut client, tenant).await, before);
    client.release(release(&alive, &handle)).await.unwrap();
    assert_eq!(used_and_held(&mut client, tenant).await[1..], [(50, 0), (50, 0), (0, 0)]);
    engine.assert_balanced().await;
}
