//! A store that stands still, and more callers than there is room for.

use std::time::Duration;

use futures::stream;
use tokio::task::JoinSet;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::operation_outcome::Outcome;
use weir_proto::quota::v1::*;

use crate::billing::{lifetime, limit};
use crate::house::{House, commit, extension, open, release, reserve, settings};

#[tokio::test]
async fn a_full_service_refuses_reservations_before_what_ends_them() {
    let house = House::with_private_redis().await;
    let mut patient = settings();
    patient.redis.deadline = Duration::from_secs(20);
    patient.max_in_flight = Some(8);
    let engine = house.engine_with(patient).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let held: Vec<_> = (0..3).map(|_| reserve(tenant, &[("nano_usd", 10)])).collect();
    let mut handles = Vec::new();
    for request in &held {
        handles.push(client.reserve(request.clone()).await.unwrap().into_inner());
    }

    house.redis.pause(Duration::from_millis(1_500)).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let mut client = engine.client();
        callers.spawn(async move { open(client.reserve(reserve(tenant, &[("nano_usd", 10)])).await) });
    }
    // Eight stay; the others are told at once.
    for _ in 0..12 {
        let failure = callers.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::Overloaded);
        assert!(failure.retry_after().is_some());
    }
    // What ends work is taken, and done when the store goes on.
    let (mut first, mut second) = (engine.client(), engine.client());
    let committed = first.commit(commit(&held[0], &handles[0], &[("nano_usd", 7)]));
    let released = second.release(release(&held[1], &handles[1]));
    let (committed, released) = tokio::join!(committed, released);
    assert!(!committed.unwrap().into_inner().late);
    assert!(!released.unwrap().into_inner().duplicate);
    let leases = ExtendRequest { leases: vec![extension(&held[2], &handles[2], 30)] };
    client.extend(leases).await.unwrap();
    while let Some(stuck) = callers.join_next().await {
        stuck.unwrap().unwrap();
    }
    let budget = crate::house::balance(&mut client, tenant, "budget").await;
    assert_eq!((budget.used, budget.held), (97, 90));
    assert_eq!(engine.status().await.drifts, []);
}

#[tokio::test]
async fn on_a_stream_too_reservations_are_refused_before_what_ends_them() {
    let house = House::with_private_redis().await;
    let mut patient = settings();
    patient.redis.deadline = Duration::from_secs(20);
    patient.quota.operations.in_flight = 8;
    let engine = house.engine_with(patient).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let held = reserve(tenant, &[("nano_usd", 10)]);
    let handle = client.reserve(held.clone()).await.unwrap().into_inner();
    house.redis.pause(Duration::from_millis(1_000)).await.unwrap();
    let reserves = (0..100).map(|_| operation::Operation::Reserve(reserve(tenant, &[("nano_usd", 1)])));
    let endings = [
        operation::Operation::Extend(extension(&held, &handle, 30)),
        operation::Operation::Commit(commit(&held, &handle, &[("nano_usd", 10)])),
    ];
    let operations = reserves.chain(endings).map(|one| Operation { operation: Some(one), ..Operation::default() });
    let messages = stream::iter([OperateRequest { operations: operations.collect() }]);
    let mut answers = client.operate(messages).await.unwrap().into_inner();
    let (mut reserved, mut shed, mut ended) = (0, 0, 0);
    while let Some(answer) = answers.message().await.unwrap() {
        for one in answer.outcomes {
            match one.outcome.unwrap() {
                Outcome::Reserved(_) => reserved += 1,
                Outcome::Error(error) => {
                    assert_eq!(
                        (error.reason(), one.operation),
                        (ErrorReason::Overloaded, OperationKind::Reserve.into())
                    );
                    shed += 1;
                }
                Outcome::Extended(_) | Outcome::Committed(_) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((reserved, shed, ended), (8, 92, 2));
}
