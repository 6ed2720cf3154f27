use std::collections::HashSet;
use std::time::Duration;

use tokio::time::sleep;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_quota::storage::settlements::{self, ByUnit, NewSettlement};
use weir_types::names;

use crate::billing::{concurrent, lifetime, limit};
use crate::house::{House, amounts, balance, commit, extension, open, release, reserve, storm};

const fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn an_expired_reservation_counts_until_whoever_takes_it_over_settles_it() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        limit("at-once", "organization", "concurrent", 1, concurrent()),
    ]);
    let mut client = one.client();
    let mut request = reserve(tenant, &[("nano_usd", 80), ("concurrent", 1)]);
    request.lease = seconds(1);
    client.reserve(request.clone()).await.unwrap();
    let take = TakeOverRequest { max: 10, lease: seconds(1) };
    assert!(client.take_over(take).await.unwrap().into_inner().reservations.is_empty(), "it is alive");
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 80), ("concurrent", 1)])).await).unwrap_err();
    let names_: Vec<_> = failure.violations().iter().map(|violation| violation.subject.clone()).collect();
    assert_eq!(names_, ["budget", "at-once"]);

    sleep(Duration::from_millis(1_100)).await;
    // Nobody is under way any more, but the money is still held.
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 80), ("concurrent", 1)])).await).unwrap_err();
    assert_eq!(failure.violations().len(), 1, "{failure:?}");
    assert_eq!(failure.violations()[0].subject, "budget");

    // By anybody, with all that is needed, and by one only.
    let taken = two.client().take_over(take).await.unwrap().into_inner().reservations;
    let [expired] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!(expired.reservation_id, request.reservation_id);
    assert_eq!(expired.organization, names::organization(&tenant));
    assert_eq!(expired.context, request.context);
    assert_eq!(expired.amounts, amounts(&[("concurrent", 1), ("nano_usd", 80)]));
    assert!(client.take_over(take).await.unwrap().into_inner().reservations.is_empty());
    // Unless that one dies, too.
    sleep(Duration::from_millis(1_100)).await;
    let again = client.take_over(take).await.unwrap().into_inner().reservations;
    assert_eq!(again.len(), 1);

    let handle = ReserveResponse { handle: again[0].handle.clone(), ..Default::default() };
    let mut settle = commit(&request, &handle, &[("nano_usd", 80)]);
    settle.estimated = true;
    client.commit(settle).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 80);
    assert!(client.take_over(take).await.unwrap().into_inner().reservations.is_empty());
    one.assert_balanced().await;
}

#[tokio::test]
async fn what_was_released_is_never_taken_over_although_the_store_was_not_told() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let mut client = engine.client();
    let [released, lost] =
        [(); 2].map(|()| ReserveRequest { lease: seconds(1), ..reserve(tenant, &[("nano_usd", 40)]) });
    let handle = client.reserve(released.clone()).await.unwrap().into_inner().handle;
    client.reserve(lost.clone()).await.unwrap();
    // Durable; then whoever wrote it died.
    let settlement = NewSettlement {
        id: released.reservation_id.parse().unwrap(),
        organization: tenant,
        released: true,
        estimated: false,
        amounts: ByUnit::new(),
        handle: handle.to_vec(),
        charges: Vec::new(),
    };
    settlements::settle(house.database().await.pool(), &[settlement], None).await.unwrap().unwrap();
    sleep(Duration::from_millis(1_100)).await;
    let take = TakeOverRequest { max: 10, lease: seconds(60) };
    let taken = client.take_over(take).await.unwrap().into_inner().reservations;
    let ids: Vec<&str> = taken.iter().map(|one| one.reservation_id.as_str()).collect();
    assert_eq!(ids, [lost.reservation_id.as_str()]);
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 40, "of the other one");
    let handle = ReserveResponse { handle, ..Default::default() };
    assert!(open(client.release(release(&released, &handle)).await).unwrap().duplicate);
}

#[tokio::test]
async fn what_was_taken_over_can_be_charged_but_not_released() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let mut client = engine.client();
    let [first, second] =
        [(); 2].map(|()| ReserveRequest { lease: seconds(1), ..reserve(tenant, &[("nano_usd", 40)]) });
    let handles =
        [open(client.reserve(first.clone()).await).unwrap(), open(client.reserve(second.clone()).await).unwrap()];
    sleep(Duration::from_millis(1_100)).await;
    let take = TakeOverRequest { max: 10, lease: seconds(1) };
    assert_eq!(client.take_over(take).await.unwrap().into_inner().reservations.len(), 2);
    // Its owner lives, and is slow: by now usage may have an event.
    let refused = open(client.release(release(&first, &handles[0])).await).unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::AlreadyExists, "{refused:?}");
    assert_eq!(balance(&mut client, tenant, "budget").await.held, 80, "nothing is charged yet");
    // Whoever took it over died; the next one is told of it, too.
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(client.take_over(take).await.unwrap().into_inner().reservations.len(), 2);
    let assumed = CommitRequest { estimated: true, ..commit(&first, &handles[0], &[("nano_usd", 40)]) };
    assert!(!open(client.commit(assumed.clone()).await).unwrap().duplicate);
    assert!(open(client.commit(assumed).await).unwrap().duplicate);
    // The other one's owner knows better.
    open(client.commit(commit(&second, &handles[1], &[("nano_usd", 7)])).await).unwrap();
    let assumed = CommitRequest { estimated: true, ..commit(&second, &handles[1], &[("nano_usd", 40)]) };
    assert_eq!(open(client.commit(assumed).await).unwrap().amounts, amounts(&[("nano_usd", 7)]));
    let balance = balance(&mut client, tenant, "budget").await;
    assert_eq!((balance.used, balance.held), (47, 0));
    engine.assert_balanced().await;
}

#[tokio::test]
async fn many_takers_share_the_expired_reservations_of_many_tenants() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let mut wanted = HashSet::new();
    for _ in 0..30 {
        let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
        for _ in 0..5 {
            let mut request = reserve(tenant, &[("nano_usd", 1)]);
            request.lease = seconds(1);
            one.client().reserve(request.clone()).await.unwrap();
            wanted.insert(request.reservation_id);
        }
    }
    sleep(Duration::from_millis(1_100)).await;
    let taken = storm(&[&one, &two], 20, async |mut client, _| {
        let mut mine = Vec::new();
        for _ in 0..4 {
            let take = TakeOverRequest { max: 40, lease: seconds(60) };
            mine.extend(client.take_over(take).await.unwrap().into_inner().reservations);
        }
        mine
    })
    .await;
    let taken: Vec<String> = taken.into_iter().flatten().map(|one| one.reservation_id).collect();
    let distinct: HashSet<String> = taken.iter().cloned().collect();
    assert_eq!(distinct.len(), taken.len(), "nobody gets what another one got");
    assert_eq!(distinct, wanted);
}

#[tokio::test]
async fn an_extended_lease_lives_on() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("at-once", "organization", "concurrent", 1, concurrent())]);
    let mut client = engine.client();
    let mut request = reserve(tenant, &[("concurrent", 1)]);
    request.lease = seconds(1);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let leases = vec![extension(&request, &handle, 30)];
    let answer = client.extend(ExtendRequest { leases: leases.clone() }).await.unwrap().into_inner();
    assert_eq!((answer.outcomes, answer.epoch), (vec![LeaseOutcome::Extended.into()], handle.epoch));
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(engine.status().await.expired, 0);
    assert!(client.reserve(reserve(tenant, &[("concurrent", 1)])).await.is_err());
    client.commit(commit(&request, &handle, &[])).await.unwrap();
    let answer = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
    assert_eq!(answer.outcomes, [i32::from(LeaseOutcome::Settled)]);
    client.reserve(reserve(tenant, &[("concurrent", 1)])).await.unwrap();

    let mut broken = extension(&request, &handle, 30);
    broken.handle = vec![7].into();
    let failure = open(client.extend(ExtendRequest { leases: vec![broken] }).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
}
