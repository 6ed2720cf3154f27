use futures::TryStreamExt as _;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::quota::v1::*;
use weir_redis::redis::cmd;
use weir_types::{OrganizationId, names};

use crate::billing::{calendar, lifetime, limit, rolling};
use crate::house::{Engine, House, amounts, commit, release, reserve};

async fn list(engine: &Engine, organization: Option<OrganizationId>, after: &str) -> Vec<Settlement> {
    let organization = organization.map(|id| names::organization(&id)).unwrap_or_default();
    let request = ListSettlementsRequest { organization, after: after.to_owned() };
    let stream = engine.as_service("operator").list_settlements(request).await.unwrap().into_inner();
    let pages: Vec<ListSettlementsResponse> = stream.try_collect().await.unwrap();
    pages.into_iter().flat_map(|page| page.settlements).collect()
}

#[tokio::test]
async fn settlements_are_listed_in_the_order_of_their_ids() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenants = [house.tenant(Vec::new()), house.tenant(Vec::new())];
    let mut batch = Vec::new();
    for number in 0..2_500_i64 {
        let request = reserve(tenants[usize::try_from(number % 2).unwrap()], &[("nano_usd", number)]);
        let none = ReserveResponse::default();
        let action = if number % 5 == 0 {
            settle::Action::Release(release(&request, &none))
        } else {
            // The handle says what it held; without limits it holds nothing.
            let handle = client.reserve(request.clone()).await.unwrap().into_inner();
            let mut commit = commit(&request, &handle, &[("nano_usd", number)]);
            commit.estimated = number % 3 == 0;
            settle::Action::Commit(commit)
        };
        batch.push(Settle { action: Some(action) });
    }
    for settles in batch.chunks(1_000) {
        client.batch_settle(BatchSettleRequest { settles: settles.to_vec() }).await.unwrap();
    }
    let all = list(&engine, None, "").await;
    assert_eq!(all.len(), 2_500);
    assert!(all.is_sorted_by(|a, b| a.reservation_id < b.reservation_id));
    let settled: usize = all.iter().filter(|one| !one.released).count();
    assert_eq!((settled, all.iter().filter(|one| one.estimated).count()), (2_000, 667));
    assert_eq!(all[1].amounts, amounts(&[("nano_usd", 1)]));
    assert!(all[0].released && all[0].amounts.is_empty() && all[0].settle_time.is_some());
    let ours = list(&engine, Some(tenants[1]), "").await;
    assert_eq!(ours.len(), 1_250);
    assert!(ours.iter().all(|one| one.organization == names::organization(&tenants[1])));
    let rest = list(&engine, None, &all[2_399].reservation_id).await;
    assert_eq!(rest, all[2_400..]);
}

#[tokio::test]
async fn the_status_says_from_when_on_settlements_are_kept() {
    let house = House::new().await;
    let engine = house.engine().await;
    let since = engine.status().await.settlements_kept_since.unwrap().seconds;
    let age = chrono::Utc::now().timestamp() - since;
    assert!((0..60).contains(&(age - 35 * 86_400)), "{age}");
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
    let key = format!("wq2:{{{}}}s", tenant.as_uuid().simple());
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
