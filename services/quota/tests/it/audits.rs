use futures::TryStreamExt as _;
use weir_proto::quota::v1::*;
use weir_types::{OrganizationId, names};

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
