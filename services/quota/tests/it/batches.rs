use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::reserve_outcome::Outcome;
use weir_proto::quota::v1::*;

use crate::billing::{lifetime, limit, rolling};
use crate::house::{House, amounts, balance, commit, open, reserve, storm};

fn batch(reservations: &[ReserveRequest]) -> BatchReserveRequest {
    BatchReserveRequest { reservations: reservations.to_vec() }
}

#[tokio::test]
async fn each_of_a_batch_is_decided_for_itself_and_answered_in_order() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
        limit("requests", "organization", "request", 100, rolling(60_000)),
    ]);
    let asked = [("nano_usd", 400), ("request", 1)];
    let mut requests: Vec<ReserveRequest> = (0..5).map(|_| reserve(tenant, &asked)).collect();
    requests[1].lease = None;
    requests[3].amounts = amounts(&[("nano_usd", 2_000), ("request", 1)]);
    let answer = client.batch_reserve(batch(&requests)).await.unwrap().into_inner();
    let ids = |outcomes: &[ReserveOutcome]| -> Vec<String> {
        outcomes.iter().map(|outcome| outcome.reservation_id.clone()).collect()
    };
    assert_eq!(ids(&answer.outcomes), requests.iter().map(|one| one.reservation_id.clone()).collect::<Vec<_>>());
    let outcomes: Vec<&Outcome> = answer.outcomes.iter().map(|one| one.outcome.as_ref().unwrap()).collect();

    let Outcome::Error(error) = outcomes[1] else { panic!("{:?}", outcomes[1]) };
    assert_eq!((error.reason(), error.code), (ErrorReason::InvalidArgument, tonic::Code::InvalidArgument.into()));
    assert!(error.message.contains("lease"), "{}", error.message);

    // More than the limit ever allows: waiting does not help.
    let Outcome::Refused(never) = outcomes[3] else { panic!("{:?}", outcomes[3]) };
    assert_eq!((never.reason(), never.retry_after), (ErrorReason::BudgetExhausted, None));
    assert_eq!(never.refused_by, ["budget"]);
    assert!(never.message.contains("refused by budget"), "{}", never.message);
    let budget = never.limits.iter().find(|limit| limit.limit == "budget").unwrap();
    assert_eq!((budget.cap, budget.requested), (1_000, 2_000));
    assert_eq!(never.limits.len(), 2, "every limit that applies is told");

    // Two of three fit.
    let reserved = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Reserved(_))).count();
    assert_eq!(reserved, 2);
    let budget = balance(&mut client, tenant, "budget").await;
    assert_eq!((budget.used, budget.held), (800, 800));

    // The same again is the same again.
    let again = client.batch_reserve(batch(&requests)).await.unwrap().into_inner();
    for (first, second) in answer.outcomes.iter().zip(&again.outcomes) {
        match (first.outcome.as_ref().unwrap(), second.outcome.as_ref().unwrap()) {
            (Outcome::Reserved(first), Outcome::Reserved(second)) => assert_eq!(first.handle, second.handle),
            (Outcome::Refused(_), Outcome::Refused(_)) | (Outcome::Error(_), Outcome::Error(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 800);
    for (request, outcome) in requests.iter().zip(outcomes) {
        if let Outcome::Reserved(handle) = outcome {
            client.commit(commit(request, handle, &[("nano_usd", 100), ("request", 1)])).await.unwrap();
        }
    }
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 200);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn of_batches_at_once_exactly_what_fits_is_admitted() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![limit("requests", "organization", "request", 50, rolling(60_000))]);
    let admitted = storm(&[&one, &two], 8, async |mut client, _| {
        let requests: Vec<_> = (0..40).map(|_| reserve(tenant, &[("request", 1)])).collect();
        let answer = client.batch_reserve(batch(&requests)).await.unwrap().into_inner();
        assert_eq!(answer.outcomes.len(), 40);
        answer.outcomes.iter().filter(|one| matches!(one.outcome, Some(Outcome::Reserved(_)))).count()
    })
    .await;
    assert_eq!(admitted.iter().sum::<usize>(), 50);
}

#[tokio::test]
async fn a_batch_has_at_most_a_thousand_and_a_process_a_bound_over_all() {
    let house = House::new().await;
    let mut settings = crate::house::settings();
    settings.quota.operations.in_flight = 10;
    let engine = house.engine_with(settings).await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("requests", "organization", "request", 100_000, lifetime())]);
    let requests: Vec<_> = (0..1_001).map(|_| reserve(tenant, &[("request", 1)])).collect();
    let failure = open(client.batch_reserve(batch(&requests)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
    assert_eq!(failure.fields()[0].subject, "reservations");

    let answer = client.batch_reserve(batch(&requests[..100])).await.unwrap().into_inner();
    let mut admitted = 0;
    for one in &answer.outcomes {
        match one.outcome.as_ref().unwrap() {
            Outcome::Reserved(_) => admitted += 1,
            Outcome::Error(error) => {
                assert_eq!(error.reason(), ErrorReason::Overloaded);
                assert!(error.retry_after.is_some());
            }
            Outcome::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
    assert_eq!(admitted, 10);
    assert_eq!(balance(&mut client, tenant, "requests").await.held, 10, "what found no room wrote nothing");
}
