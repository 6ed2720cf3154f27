use std::time::Duration;

use futures::future::join_all;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_rpc::Failure;
use weir_types::{ApiKeyId, MAX_AMOUNT, UserId, names};

use crate::billing::{calendar, concurrent, lifetime, limit, rolling};
use crate::house::{House, amounts, balance, balance_of, commit, id, open, reserve, storm, subject};

#[tokio::test]
async fn of_200_at_once_exactly_those_that_fit_are_admitted_on_two_engines() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let month = calendar(CalendarUnit::Month);
    for limits in [
        vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())],
        vec![limit("budget", "organization", "nano_usd", 1_000, month)],
        vec![limit("requests", "organization", "request", 10, rolling(60_000))],
        vec![limit("tokens", "organization", "token", 100_000, rolling(3_600_000))],
        vec![limit("at-once", "organization", "concurrent", 10, concurrent())],
    ] {
        let tenant = house.tenant(limits);
        let asked = [("request", 1), ("token", 10_000), ("nano_usd", 100), ("concurrent", 1)];
        let answers = storm(&[&one, &two], 200, async |mut client, _| {
            let request = reserve(tenant, &asked);
            (open(client.reserve(request.clone()).await), request)
        })
        .await;
        let admitted: Vec<_> =
            answers.iter().filter_map(|(answer, request)| Some((answer.as_ref().ok()?, request))).collect();
        assert_eq!(admitted.len(), 10);
        for failure in answers.iter().filter_map(|(answer, _)| answer.as_ref().err()) {
            assert!(matches!(failure.reason(), ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted), "{failure}");
        }
        // What is given back can be had again, once.
        let (handle, request) = admitted[0];
        one.client().commit(commit(request, handle, &[])).await.unwrap();
        let again =
            storm(&[&one, &two], 20, async |mut client, _| client.reserve(reserve(tenant, &asked)).await.is_ok()).await;
        let settled_for_good = again.iter().filter(|admitted| **admitted).count();
        assert_eq!(settled_for_good, 1);
    }
    let status = one.status().await;
    assert_eq!(status.drifts, []);
    assert_eq!(status.held, 50);
}

#[tokio::test]
async fn a_denial_writes_nothing_and_names_every_limit_that_refuses() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("requests-per-minute", "organization", "request", 2, rolling(60_000)),
        limit("tokens-per-minute", "organization", "token", 1_000_000, rolling(60_000)),
        limit("budget", "organization", "nano_usd", 150, calendar(CalendarUnit::Day)),
        limit("user-tokens", "user", "token", 50, calendar(CalendarUnit::Hour)),
        limit("at-once", "organization", "concurrent", 2, concurrent()),
        limit("big", "organization", "nano_usd", 10_000, lifetime()),
    ]);
    let mut request = reserve(tenant, &[("request", 1), ("token", 20), ("nano_usd", 70), ("concurrent", 1)]);
    request.subject.as_mut().unwrap().user = names::user(&tenant, &UserId::new_v7());
    for _ in 0..2 {
        request.reservation_id = id();
        client.reserve(request.clone()).await.unwrap();
    }
    let before = house.dump(tenant).await;
    request.reservation_id = id();
    let failure = open(client.reserve(request).await).unwrap_err();
    assert_eq!(house.dump(tenant).await, before);

    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
    let mut refused: Vec<&str> = failure.violations().iter().map(|violation| violation.subject.as_str()).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["at-once", "budget", "requests-per-minute", "user-tokens"]);
    let budget = failure.metadata("limit.budget").unwrap();
    assert!(budget.contains("cap=150;used=140;held=140;requested=70;"), "{budget}");
    let requests = failure.metadata("limit.requests-per-minute").unwrap();
    assert!(requests.contains("cap=2;used=2;held=2;requested=1;"), "{requests}");
    let words = |name: &str| failure.violations().iter().find(|one| one.subject == name).unwrap().description.clone();
    assert_eq!(words("at-once"), "2 of 2 calls under way; try again in 1 s");
    assert!(words("requests-per-minute").starts_with("2 of 2 requests used, 1 asked for; try again in "));
    let all = format!("refused by requests-per-minute: {}. Also refused by budget: ", words("requests-per-minute"));
    assert!(failure.message().starts_with(&all), "{}", failure.message());
    assert!(failure.retry_after().is_some(), "waiting until tomorrow helps with all of them");
}

#[tokio::test]
async fn a_denial_says_when_to_try_again_and_that_is_true() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("requests", "organization", "request", 3, rolling(1_500))]);
    for _ in 0..3 {
        client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
    }
    let failure = open(client.reserve(reserve(tenant, &[("request", 1)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    let wait = failure.retry_after().unwrap();
    assert!(wait > Duration::from_millis(1_000) && wait <= Duration::from_millis(1_501), "{wait:?}");
    tokio::time::sleep(wait).await;
    client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();

    // What is more than the cap never fits, so there is no time to wait for.
    let failure = open(client.reserve(reserve(tenant, &[("request", 4)])).await).unwrap_err();
    assert_eq!(failure.retry_after(), None, "{failure:?}");
}

#[tokio::test]
async fn the_same_request_again_holds_nothing_more_and_answers_the_same_handle() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        limit("requests", "organization", "request", 5, rolling(60_000)),
    ]);
    let request = reserve(tenant, &[("nano_usd", 60), ("request", 1)]);
    let answers =
        storm(&[&one, &two], 50, async |mut client, _| open(client.reserve(request.clone()).await).unwrap()).await;
    assert!(answers.iter().all(|answer| answer.handle == answers[0].handle));
    let mut client = one.client();
    let budget = balance(&mut client, tenant, "budget").await;
    assert_eq!((budget.used, budget.held), (60, 60));
    // Even if it would not fit any more.
    client.reserve(reserve(tenant, &[("nano_usd", 40), ("request", 1)])).await.unwrap();
    assert_eq!(client.reserve(request.clone()).await.unwrap().into_inner().handle, answers[0].handle);

    let mut other = request.clone();
    other.amounts = amounts(&[("nano_usd", 61), ("request", 1)]);
    assert_eq!(open(client.reserve(other).await).unwrap_err().reason(), ErrorReason::IdReused);
    let mut other = request.clone();
    other.subject.as_mut().unwrap().user = names::user(&tenant, &UserId::new_v7());
    assert_eq!(open(client.reserve(other).await).unwrap_err().reason(), ErrorReason::IdReused);

    // Settled, it does not come to life again, whatever arrives late.
    client.commit(commit(&request, &answers[0], &[("nano_usd", 1), ("request", 1)])).await.unwrap();
    assert_eq!(open(client.reserve(request).await).unwrap_err().reason(), ErrorReason::IdReused);
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 41);
}

#[tokio::test]
async fn each_scope_counts_for_itself() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("all", "organization", "request", 5, lifetime()),
        limit("each-user", "user", "request", 2, lifetime()),
        limit("each-key", "api_key", "request", 3, rolling(60_000)),
        limit("each-ip", "ip", "request", 1, calendar(CalendarUnit::Minute)),
        limit("each-feature", "feature", "request", 1, calendar(CalendarUnit::Month)),
    ]);
    let (ann, bob) = (names::user(&tenant, &UserId::new_v7()), names::user(&tenant, &UserId::new_v7()));
    let key = names::api_key(&tenant, &ApiKeyId::new_v7());
    let mut reserve_as = async |change: &dyn Fn(&mut Subject)| -> Result<(), Failure> {
        let mut request = reserve(tenant, &[("request", 1)]);
        change(request.subject.as_mut().unwrap());
        open(client.reserve(request).await).map(drop)
    };
    let refused_by = |result: Result<(), Failure>| {
        result.unwrap_err().violations().iter().map(|violation| violation.subject.clone()).collect::<Vec<_>>()
    };
    reserve_as(&|subject| subject.user.clone_from(&ann)).await.unwrap();
    reserve_as(&|subject| (subject.user, subject.api_key) = (ann.clone(), key.clone())).await.unwrap();
    assert_eq!(refused_by(reserve_as(&|subject| subject.user.clone_from(&ann)).await), ["each-user"]);
    reserve_as(&|subject| subject.user.clone_from(&bob)).await.unwrap();
    reserve_as(&|subject| subject.ip = "10.1.2.3".to_owned()).await.unwrap();
    assert_eq!(refused_by(reserve_as(&|subject| subject.ip = "::ffff:10.1.2.3".to_owned()).await), ["each-ip"]);
    let feature = |subject: &mut Subject| drop(subject.labels.insert("feature".to_owned(), "interview".to_owned()));
    reserve_as(&feature).await.unwrap();
    assert_eq!(refused_by(reserve_as(&feature).await), ["all", "each-feature"]);

    let of_bob = balance_of(&mut client, Subject { user: bob, ..subject(tenant) }, "each-user").await;
    assert_eq!((of_bob.used, of_bob.cap, of_bob.scope.as_str()), (1, 2, "user"));
}

#[tokio::test]
async fn a_check_says_what_a_reservation_would_be_told_and_changes_nothing() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, calendar(CalendarUnit::Month)),
        limit("requests", "organization", "request", 2, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 1, concurrent()),
    ]);
    let check = |list: &[(&str, i64)]| CheckRequest { subject: Some(subject(tenant)), amounts: amounts(list) };
    let fits = client.check(check(&[("nano_usd", 100), ("request", 2), ("concurrent", 1)])).await.unwrap().into_inner();
    assert!(fits.allowed && fits.refused_by.is_empty());
    client.reserve(reserve(tenant, &[("nano_usd", 60), ("request", 1), ("concurrent", 1)])).await.unwrap();
    let before = house.dump(tenant).await;
    let answer =
        client.check(check(&[("nano_usd", 60), ("request", 1), ("concurrent", 1)])).await.unwrap().into_inner();
    assert_eq!(house.dump(tenant).await, before);
    assert!(!answer.allowed);
    assert_eq!(answer.refused_by, ["budget", "at-once"]);
    let budget = &answer.limits[answer.limits.iter().position(|limit| limit.limit == "budget").unwrap()];
    assert_eq!((budget.cap, budget.used, budget.held, budget.requested), (100, 60, 60, 60));
    assert!(budget.retry_after.is_some() && budget.reset_after == budget.retry_after);
}

#[tokio::test]
async fn amounts_up_to_the_largest_that_doubles_hold_are_exact() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", MAX_AMOUNT, lifetime()),
        limit("rate", "organization", "token", MAX_AMOUNT, rolling(60_000)),
    ]);
    let most = reserve(tenant, &[("nano_usd", MAX_AMOUNT - 1), ("token", MAX_AMOUNT - 1)]);
    let handle = client.reserve(most.clone()).await.unwrap().into_inner();
    let rest = reserve(tenant, &[("nano_usd", 1), ("token", 1)]);
    client.reserve(rest.clone()).await.unwrap();
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
    assert!(client.reserve(reserve(tenant, &[("token", 1)])).await.is_err());
    assert_eq!(balance(&mut client, tenant, "budget").await.used, MAX_AMOUNT);
    client.commit(commit(&most, &handle, &[("nano_usd", MAX_AMOUNT), ("token", MAX_AMOUNT)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "budget").await.used, MAX_AMOUNT + 1);
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
    for beyond in [MAX_AMOUNT + 1, -1, i64::MAX, i64::MIN] {
        let failure = open(client.reserve(reserve(tenant, &[("nano_usd", beyond)])).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
    }
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_holds_nothing() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let good = reserve(tenant, &[("nano_usd", 1)]);
    let field = async |client: &mut crate::house::Client, change: &dyn Fn(&mut ReserveRequest)| {
        let mut request = good.clone();
        change(&mut request);
        let failure = open(client.reserve(request).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::InvalidArgument, "{failure}");
        failure.fields()[0].subject.clone()
    };
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert_eq!(field(&mut client, &|r| r.reservation_id = "x".to_owned()).await, "reservation_id");
    assert_eq!(field(&mut client, &|r| r.reservation_id = uuid::Uuid::nil().to_string()).await, "reservation_id");
    assert_eq!(field(&mut client, &|r| r.lease = None).await, "lease");
    assert_eq!(field(&mut client, &|r| r.lease = span(0)).await, "lease");
    assert_eq!(field(&mut client, &|r| r.lease = span(3_601)).await, "lease");
    assert_eq!(field(&mut client, &|r| r.lease = span(-1)).await, "lease");
    assert_eq!(field(&mut client, &|r| r.context = vec![0; 4_097].into()).await, "context");
    assert_eq!(field(&mut client, &|r| r.amounts = amounts(&[("nano_usd", 1), ("nano_usd", 1)])).await, "amounts");
    assert_eq!(field(&mut client, &|r| r.amounts = amounts(&[("Dollar", 1)])).await, "amounts");
    assert_eq!(field(&mut client, &|r| r.subject = None).await, "subject");
    assert_eq!(
        field(&mut client, &|r| r.subject.as_mut().unwrap().organization = "x".to_owned()).await,
        "organization"
    );
    assert_eq!(field(&mut client, &|r| r.subject.as_mut().unwrap().user = "x".to_owned()).await, "user");
    assert_eq!(engine.assert_balanced().await.held, 0);
}

#[tokio::test]
async fn without_a_limit_all_is_admitted_and_still_leased() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(Vec::new());
    let requests: Vec<_> = (0..20).map(|_| reserve(tenant, &[("nano_usd", MAX_AMOUNT)])).collect();
    let answers = join_all(requests.iter().map(|request| {
        let mut client = engine.client();
        async move { client.reserve(request.clone()).await.unwrap().into_inner() }
    }))
    .await;
    assert_eq!(engine.status().await.held, 20);
    for (request, answer) in requests.iter().zip(&answers) {
        engine.client().commit(commit(request, answer, &[("nano_usd", 1)])).await.unwrap();
    }
    engine.assert_balanced().await;
}
