//! A store that comes back with its data is another generation all the same: what it kept may be older than what was answered.

use weir_proto::quota::v1::*;
use weir_quota::domain::Value;
use weir_quota::storage::redis;
use weir_quota::storage::store::InstallSubject;
use weir_redis::redis::cmd;
use weir_types::OrganizationId;

use crate::billing::{concurrent, lifetime, limit, rolling};
use std::time::Duration;

use tokio::time::sleep;

use crate::house::{Client, House, amounts, balance, commit, extension, open, release, reserve};

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

/// Until the engine has noticed and opened again.
async fn reopened(client: &mut Client, tenant: OrganizationId) {
    let check = CheckRequest {
        subject: Some(crate::house::subject(tenant)),
        amounts: crate::house::amounts(&[("nano_usd", 1)]),
    };
    sleep(Duration::from_millis(200)).await;
    while let Err(failure) = open(client.check(check.clone()).await) {
        assert!(failure.is_transient(), "{failure}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_a_dead_caller_held_in_a_store_that_kept_it_counts_and_is_taken_over() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = tenant(&house);
    let mut client = one.client();
    let dead = ReserveRequest {
        lease: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        ..reserve(tenant, &[("token", 600), ("nano_usd", 600)])
    };
    client.reserve(dead.clone()).await.unwrap();
    come_back_with_data(&house).await;
    reopened(&mut client, tenant).await;
    for engine in [&two, &one] {
        let failure = open(engine.client().reserve(reserve(tenant, &[("nano_usd", 401)])).await).unwrap_err();
        assert_eq!(failure.figure("ever", "held"), Some("600"), "{failure}");
        assert!(engine.client().reserve(reserve(tenant, &[("token", 401)])).await.is_err());
    }
    let again = open(client.reserve(dead.clone()).await).unwrap();
    let taken = loop {
        let ask = TakeOverRequest { max: 10, lease: Some(prost_types::Duration { seconds: 30, nanos: 0 }) };
        let mut taken = client.take_over(ask).await.unwrap().into_inner().reservations;
        if let Some(taken) = taken.pop() {
            break taken;
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&taken.reservation_id, &taken.handle), (&dead.reservation_id, &again.handle));
    assert_eq!(taken.context, dead.context);
    client.commit(commit(&dead, &again, &[("token", 500), ("nano_usd", 500)])).await.unwrap();
    assert_eq!(used_and_held(&mut client, tenant).await[1..3], [(500, 0), (500, 0)]);
    one.assert_balanced().await;
}

#[tokio::test]
async fn what_a_dead_caller_held_counts_before_anybody_else_grows() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = tenant(&house);
    let mut client = engine.client();
    let dead = reserve(tenant, &[("nano_usd", 600)]);
    let deads = client.reserve(dead.clone()).await.unwrap().into_inner();
    let alive = reserve(tenant, &[("nano_usd", 10)]);
    let handle = client.reserve(alive.clone()).await.unwrap().into_inner();
    come_back_with_data(&house).await;
    reopened(&mut client, tenant).await;
    let whole = |whole| {
        let lease = LeaseExtension { amounts: amounts(&[("nano_usd", whole)]), ..extension(&alive, &handle, 30) };
        ExtendRequest { leases: vec![lease] }
    };
    let failure = open(client.extend(whole(401)).await).unwrap_err();
    assert_eq!(failure.figure("ever", "used"), Some("600"), "{failure}");
    let grown = client.extend(whole(400)).await.unwrap().into_inner().grown.unwrap();
    client.release(release(&alive, &grown)).await.unwrap();
    client.release(release(&dead, &deads)).await.unwrap();
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_settlement_that_comes_before_the_announcement_counts_once() {
    let house = House::new().await;
    let engine = house.engine().await;
    for kept in [true, false] {
        let tenant = tenant(&house);
        let mut client = engine.client();
        let asked = ASKED;
        let mut alive = Vec::new();
        for _ in 0..3 {
            let request = reserve(tenant, &asked);
            let handle = client.reserve(request.clone()).await.unwrap().into_inner();
            alive.push((request, handle));
        }
        if kept {
            come_back_with_data(&house).await;
        } else {
            house.redis.flush().await.unwrap();
        }
        reopened(&mut client, tenant).await;
        // Loads the counters, before anybody has announced anything.
        let other = reserve(tenant, &[("token", 7), ("nano_usd", 7)]);
        let handle = client.reserve(other.clone()).await.unwrap().into_inner();
        client.commit(commit(&alive[0].0, &alive[0].1, &[("token", 50), ("nano_usd", 50)])).await.unwrap();
        client.commit(commit(&alive[1].0, &alive[1].1, &[("token", 20), ("nano_usd", 20)])).await.unwrap();
        client.release(release(&alive[2].0, &alive[2].1)).await.unwrap();
        client.commit(commit(&other, &handle, &[("token", 7), ("nano_usd", 7)])).await.unwrap();
        let states = used_and_held(&mut client, tenant).await;
        assert_eq!(states[1..], [(77, 0), (77, 0), (0, 0)], "kept: {kept}");
        engine.assert_balanced().await;
    }
}

#[tokio::test]
async fn counters_that_were_read_before_a_settlement_are_not_put_in_place_after_it() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("ever", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let request = reserve(tenant, &[("nano_usd", 50)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    house.redis.flush().await.unwrap();
    // As an engine does that reads Postgres now, and is slow.
    let store = redis::Store::new(house.connection().await);
    let scripts = redis::Scripts::new(engine.status().await.epoch);
    let fence = store.fence(&tenant).await.unwrap();
    let subject = InstallSubject { value: Value::Organization, layout: 1, sweep_after: -1, entries: Vec::new() };
    client.commit(commit(&request, &handle, &[("nano_usd", 50)])).await.unwrap();
    assert!(!store.install(&scripts, &tenant, &fence, &[subject]).await.unwrap());
    let state = balance(&mut client, tenant, "ever").await;
    assert_eq!((state.used, state.held), (50, 0));
}

#[tokio::test]
async fn what_a_store_has_kept_from_before_its_end_is_not_held_again() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = tenant(&house);
    let mut client = engine.client();
    let request = reserve(tenant, &ASKED);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    // The store loses what it was told last, as an append-only file does that is synced once a second.
    let redis = house.connection().await;
    let keys: Vec<Vec<u8>> = redis.command(cmd("KEYS").arg("*{0*")).await.unwrap();
    let mut before = Vec::new();
    for key in keys {
        let dump: Vec<u8> = redis.command(cmd("DUMP").arg(&key)).await.unwrap();
        before.push((key, dump));
    }
    assert_eq!(before.len(), 2, "counters and calls under way, leases");
    client.commit(commit(&request, &handle, &[("request", 1), ("token", 40), ("nano_usd", 40)])).await.unwrap();
    for (key, dump) in before {
        redis.command::<()>(cmd("RESTORE").arg(&key).arg(0).arg(&dump).arg("REPLACE")).await.unwrap();
    }
    assert_eq!(engine.status().await.held, 1);
    come_back_with_data(&house).await;
    reopened(&mut client, tenant).await;
    let other = reserve(tenant, &ASKED);
    let handle = client.reserve(other.clone()).await.unwrap().into_inner();
    assert_eq!(used_and_held(&mut client, tenant).await[1..], [(90, 50), (90, 50), (1, 1)]);
    client.release(release(&other, &handle)).await.unwrap();
    assert_eq!(used_and_held(&mut client, tenant).await[1..], [(40, 0), (40, 0), (0, 0)]);
    engine.assert_balanced().await;
}
