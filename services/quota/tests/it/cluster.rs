//! On a Redis Cluster of three masters: every operation, and what losing one of them must not do.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::billing::v1::{CalendarUnit, Limit};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::OrganizationId;

use crate::billing::{calendar, concurrent, lifetime, limit, rolling};
use crate::house::{Client, House, balance, commit, extension, open, release, reserve, storm};
use crate::losses::books_balance_through;

fn limits(budget: i64) -> Vec<Limit> {
    vec![
        limit("budget", "organization", "nano_usd", budget, calendar(CalendarUnit::Month)),
        limit("requests", "organization", "request", 1_000, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 1_000, concurrent()),
    ]
}

/// A key of the tenant's.
fn key(tenant: OrganizationId) -> Vec<u8> {
    format!("wq3:{{{}}}s", tenant.as_uuid().simple()).into_bytes()
}

/// A tenant of each master.
async fn tenants(house: &House, budget: i64) -> Vec<OrganizationId> {
    let cluster = house.cluster.as_ref().unwrap();
    let mut tenants = vec![None; 3];
    while tenants.contains(&None) {
        let tenant = house.tenant(limits(budget));
        tenants[cluster.owner(&key(tenant)).await.unwrap()] = Some(tenant);
    }
    tenants.into_iter().flatten().collect()
}

/// What is answered when it is no passing failure any more.
async fn persist(client: &mut Client, request: &ReserveRequest) -> Result<ReserveResponse, ErrorReason> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match open(client.reserve(request.clone()).await) {
            Ok(handle) => return Ok(handle),
            Err(failure) if failure.is_transient() && Instant::now() < until => sleep(Duration::from_millis(20)).await,
            Err(failure) => return Err(failure.reason()),
        }
    }
}

#[tokio::test]
async fn every_operation_works_wherever_a_tenant_is() {
    let house = House::on_cluster().await;
    let (one, two) = (house.engine().await, house.engine().await);
    for tenant in tenants(&house, 100).await {
        let mut client = one.client();
        let asked = [("nano_usd", 40), ("request", 1), ("concurrent", 1)];
        let requests: Vec<ReserveRequest> = (0..3).map(|_| reserve(tenant, &asked)).collect();
        let first = client.reserve(requests[0].clone()).await.unwrap().into_inner();
        let second = two.client().reserve(requests[1].clone()).await.unwrap().into_inner();
        let refused = open(client.reserve(requests[2].clone()).await).unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::BudgetExhausted);
        let again = two.client().reserve(requests[0].clone()).await.unwrap().into_inner();
        assert_eq!((again.handle, again.limits), (first.handle.clone(), first.limits.clone()));
        let leases = vec![extension(&requests[0], &first, 30), extension(&requests[1], &second, 30)];
        let extended = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
        assert_eq!(extended.outcomes, [i32::from(LeaseOutcome::Extended); 2]);
        client.commit(commit(&requests[0], &first, &[("nano_usd", 25), ("request", 1)])).await.unwrap();
        two.client().release(release(&requests[1], &second)).await.unwrap();
        let budget = balance(&mut client, tenant, "budget").await;
        assert_eq!((budget.used, budget.held), (25, 0));
        assert_eq!(balance(&mut client, tenant, "at-once").await.used, 0);

        // One that nobody settles is taken over.
        let mut orphan = reserve(tenant, &asked);
        orphan.lease = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        client.reserve(orphan.clone()).await.unwrap();
        sleep(Duration::from_millis(1_100)).await;
        let lease = Some(prost_types::Duration { seconds: 30, nanos: 0 });
        let taken =
            two.client().take_over(TakeOverRequest { max: 100, lease }).await.unwrap().into_inner().reservations;
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].reservation_id, orphan.reservation_id);
        let handle = ReserveResponse { handle: taken[0].handle.clone(), ..Default::default() };
        client.commit(commit(&orphan, &handle, &[("nano_usd", 40)])).await.unwrap();
    }
    one.assert_balanced().await;
    two.stop().await;
}

#[tokio::test]
async fn the_loss_of_one_masters_data_is_noticed_wherever_the_epoch_is() {
    let house = House::on_cluster().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let cluster = house.cluster.as_ref().unwrap();
    for (place, tenant) in tenants(&house, 100).await.into_iter().enumerate() {
        let mut client = one.client();
        let alive = reserve(tenant, &[("nano_usd", 60), ("concurrent", 1)]);
        let handle = persist(&mut client, &alive).await.unwrap();
        cluster.send::<()>(place, &["FLUSHALL"]).await.unwrap();
        // Whichever engine is asked, and whether it has noticed or not.
        let wish = reserve(tenant, &[("nano_usd", 60), ("concurrent", 1)]);
        for engine in [&one, &two] {
            let failure = open(engine.client().reserve(wish.clone()).await).unwrap_err();
            assert_eq!(failure.reason(), ErrorReason::Rebuilding, "{failure}");
        }
        let leases = vec![extension(&alive, &handle, 30)];
        let answer = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
        assert_eq!(answer.outcomes, [i32::from(LeaseOutcome::Announced)]);
        assert!(answer.epoch > handle.epoch);
        assert_eq!(persist(&mut two.client(), &wish).await, Err(ErrorReason::BudgetExhausted), "60 of 100 are held");
        client.commit(commit(&alive, &handle, &[("nano_usd", 60)])).await.unwrap();
    }
    one.assert_balanced().await;
}

#[tokio::test]
async fn masters_that_die_one_after_the_other_oversell_nothing_and_lose_nothing() {
    books_balance_through(House::on_cluster().await, 600, async |house| {
        let cluster = house.cluster.as_ref().unwrap();
        for place in 0..3 {
            cluster.kill(place);
            sleep(Duration::from_millis(300)).await;
            cluster.restart(place).await.unwrap();
        }
        // Connections that have not been used since then break with the first call.
        sleep(Duration::from_secs(1)).await;
    })
    .await;
}

#[tokio::test]
async fn while_its_slot_moves_a_tenant_is_admitted_exactly_what_fits() {
    let house = House::on_cluster().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let cluster = house.cluster.as_ref().unwrap();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        limit("requests", "organization", "request", 1_000, rolling(60_000)),
    ]);
    let epoch = persist(&mut one.client(), &reserve(tenant, &[("request", 1)])).await.unwrap().epoch;
    let from = cluster.owner(&key(tenant)).await.unwrap();
    let slot = cluster.slot(&key(tenant)).await.unwrap();
    let moving = async {
        for hop in 0..3 {
            let (from, to) = ((from + hop) % 3, (from + hop + 1) % 3);
            cluster.migrate(slot, from, to, Duration::from_millis(20)).await.unwrap();
        }
    };
    let engines = [&one, &two];
    let reserving = storm(&engines, 160, async |mut client, number| {
        sleep(Duration::from_millis(2 * number as u64)).await;
        let request = reserve(tenant, &[("nano_usd", 1), ("request", 1)]);
        match persist(&mut client, &request).await {
            Ok(handle) => Some((request, handle)),
            Err(reason) => {
                assert_eq!(reason, ErrorReason::BudgetExhausted);
                None
            }
        }
    });
    let ((), admitted) = tokio::join!(moving, reserving);
    let admitted: Vec<_> = admitted.into_iter().flatten().collect();
    assert_eq!(admitted.len(), 100);
    assert_eq!(admitted[0].1.epoch, epoch, "nothing was lost");
    let mut client = two.client();
    for (request, handle) in &admitted {
        client.commit(commit(request, handle, &[("nano_usd", 1), ("request", 1)])).await.unwrap();
    }
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 100);
}
