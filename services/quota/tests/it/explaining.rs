//! Explain: what was decided, by which values, and who holds what.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_testing::PostgresServer;
use weir_types::{OrganizationId, Scope, UserId, names};

use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, Engine, House, amounts, commit, id, open, release, reserve, settings, subject};

fn by(organization: OrganizationId, user: &UserId, list: &[(&str, i64)]) -> ReserveRequest {
    let mut request = reserve(organization, list);
    request.subject.as_mut().unwrap().user = names::user(&organization, user);
    request
}

pub(crate) fn of(organization: OrganizationId) -> ExplainRequest {
    ExplainRequest { subject: Some(subject(organization)), ..Default::default() }
}

pub(crate) fn about(id: &str) -> ExplainRequest {
    ExplainRequest { reservation_id: id.to_owned(), ..Default::default() }
}

pub(crate) async fn explain(engine: &Engine, request: ExplainRequest) -> ExplainResponse {
    engine.as_service("operator").explain(request).await.unwrap().into_inner()
}

/// Once the log has so many decisions.
pub(crate) async fn explain_with(engine: &Engine, request: ExplainRequest, decisions: usize) -> ExplainResponse {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = explain(engine, request.clone()).await;
        if answer.decisions.len() >= decisions || Instant::now() > until {
            return answer;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn settled(client: &mut Client, request: &ReserveRequest, actuals: &[(&str, i64)]) {
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(request, &handle, actuals)).await.unwrap();
}

pub(crate) fn figures(limit: &DecidedLimit) -> (&str, i64, Option<i64>, Option<i64>, Option<i64>) {
    (&limit.limit, limit.amount, limit.cap, limit.used, limit.held)
}

#[tokio::test]
async fn a_reservation_explains_itself_from_the_first_moment_to_long_after() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
        limit("requests", "user", "request", 10, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 5, concurrent()),
    ]);
    let user = UserId::new_v7();
    let mut client = engine.client();
    settled(&mut client, &by(tenant, &user, &[("nano_usd", 100), ("request", 1)]), &[("nano_usd", 60), ("request", 1)])
        .await;
    let request = by(tenant, &user, &[("nano_usd", 200), ("request", 1), ("concurrent", 1)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();

    // Nobody said whose it is.
    let answer = explain(&engine, about(&request.reservation_id)).await;
    assert_eq!((answer.organization, answer.decisions.len()), (names::organization(&tenant), 0));
    assert_eq!((answer.entitlements_version, answer.missing), (1, Vec::<String>::new()));
    let now: Vec<_> = answer.limits.iter().map(|limit| (limit.limit.as_str(), limit.used, limit.held)).collect();
    assert_eq!(now, [("budget", 260, 200), ("requests", 2, 1), ("at-once", 1, 1)]);
    let [held] = &answer.holders[..] else { panic!("{:?}", answer.holders) };
    let left = held.lease_left.unwrap().seconds;
    assert!((1..=30).contains(&left), "{left}");
    assert_eq!(held.state(), DecisionState::Held);
    assert_eq!(held.subject.as_ref().unwrap().user, names::user(&tenant, &user));
    assert_eq!(held.amounts, amounts(&[("concurrent", 1), ("nano_usd", 200), ("request", 1)]));
    let then = [
        ("budget", 200, Some(1_000), Some(260), Some(200)),
        ("requests", 1, Some(10), Some(2), Some(1)),
        ("at-once", 1, Some(5), Some(1), Some(1)),
    ];
    assert_eq!(held.limits.iter().map(figures).collect::<Vec<_>>(), then);
    assert_eq!(held.limits[1].subject, user.to_string());

    client.commit(commit(&request, &handle, &[("nano_usd", 150), ("request", 1)])).await.unwrap();
    // Later things change what is, not what was.
    house.billing.set(tenant, vec![limit("budget", "organization", "nano_usd", 5_000, lifetime())]);
    let answer = explain(&engine, about(&request.reservation_id)).await;
    assert!(answer.holders.is_empty());
    let [ended] = &answer.decisions[..] else { panic!("{:?}", answer.decisions) };
    assert_eq!(ended.state(), DecisionState::Committed);
    assert_eq!(ended.charged, amounts(&[("nano_usd", 150), ("request", 1)]));
    assert_eq!((ended.late, ended.estimated, ended.without_store), (false, false, false));
    assert_eq!(ended.limits.iter().map(figures).collect::<Vec<_>>(), then);
    assert_eq!(ended.decision_time, held.decision_time);
    assert!(ended.settle_time.is_some());
}

#[tokio::test]
async fn estimates_late_endings_and_releases_are_told_apart() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let mut short = reserve(tenant, &[("nano_usd", 100)]);
    short.lease = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let handle = client.reserve(short.clone()).await.unwrap().into_inner();
    sleep(Duration::from_millis(1_100)).await;
    let answer = explain(&engine, of(tenant)).await;
    assert_eq!(answer.holders[0].state(), DecisionState::Expired);
    let left = answer.holders[0].lease_left.unwrap();
    assert!(left.seconds < 0 || left.nanos < 0, "{left:?}");
    let assumed = CommitRequest { estimated: true, ..commit(&short, &handle, &[("nano_usd", 100)]) };
    client.commit(assumed).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let ended = loop {
        let ended = explain(&engine, about(&short.reservation_id)).await.decisions.remove(0);
        if ended.late || Instant::now() > until {
            break ended;
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((ended.late, ended.estimated, ended.charged), (true, true, amounts(&[("nano_usd", 100)])));
    client.commit(commit(&short, &handle, &[("nano_usd", 70)])).await.unwrap();
    let ended = explain(&engine, about(&short.reservation_id)).await.decisions.remove(0);
    assert_eq!((ended.late, ended.estimated), (true, false));
    assert_eq!((ended.charged, ended.replaced), (amounts(&[("nano_usd", 70)]), amounts(&[("nano_usd", 100)])));

    let request = reserve(tenant, &[("nano_usd", 5)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.release(release(&request, &handle)).await.unwrap();
    let ended = explain(&engine, about(&request.reservation_id)).await.decisions.remove(0);
    assert_eq!((ended.state(), ended.charged.len(), ended.late), (DecisionState::Released, 0, false));
}

#[tokio::test]
async fn a_refusal_says_which_limits_stood_how_and_what_the_caller_was_told() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 1_000, lifetime()),
        limit("requests", "user", "request", 1, rolling(60_000)),
    ]);
    let user = UserId::new_v7();
    let mut client = engine.client();
    client.reserve(by(tenant, &user, &[("nano_usd", 900), ("request", 1)])).await.unwrap();
    let request = by(tenant, &user, &[("nano_usd", 50), ("request", 1)]);
    let failure = open(client.reserve(request.clone()).await).unwrap_err();
    let answer = explain_with(&engine, of(tenant), 1).await;
    let [refused] = &answer.decisions[..] else { panic!("{:?}", answer.decisions) };
    assert_eq!((refused.state(), refused.reason()), (DecisionState::Refused, ErrorReason::QuotaExceeded));
    assert_eq!((&refused.reservation_id, refused.message.as_str()), (&request.reservation_id, failure.message()));
    assert_eq!(refused.amounts, amounts(&[("nano_usd", 50), ("request", 1)]));
    let limits: Vec<_> = refused.limits.iter().map(|limit| (figures(limit), limit.refused)).collect();
    assert_eq!(
        limits,
        [
            (("budget", 50, Some(1_000), Some(900), Some(900)), false),
            (("requests", 1, Some(1), Some(1), Some(1)), true)
        ]
    );
    assert_eq!(refused.limits[1].subject, user.to_string());
    assert!(refused.limits[1].retry_after.is_some_and(|wait| wait.seconds >= 50));
    assert_eq!(refused.subject.as_ref().unwrap().user, names::user(&tenant, &user));
    // Tried again until it fitted, it has both.
    house.billing.set(tenant, vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let until = Instant::now() + Duration::from_secs(60);
    while client.reserve(request.clone()).await.is_err() {
        assert!(Instant::now() < until, "the change never came");
        sleep(Duration::from_millis(1)).await;
    }
    let answer = explain_with(&engine, about(&request.reservation_id), 1).await;
    assert_eq!((answer.holders.len(), answer.decisions[0].state()), (1, DecisionState::Refused));
}

#[tokio::test]
async fn a_storm_of_refusals_leaves_a_sample_and_a_count() {
    let house = House::new().await;
    let mut settings = settings();
    settings.quota.refusals.burst = 5;
    settings.quota.housekeeping.every = Duration::from_millis(100);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 0, lifetime())]);
    let quiet = house.tenant(vec![limit("budget", "organization", "nano_usd", 0, lifetime())]);
    let refused = async |tenant| engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap_err();
    for _ in 0..200 {
        refused(tenant).await;
    }
    refused(quiet).await;
    assert_eq!(explain_with(&engine, of(quiet), 1).await.decisions.len(), 1, "one tenant's storm is its own");
    sleep(Duration::from_millis(1_100)).await;
    refused(tenant).await;
    let until = Instant::now() + Duration::from_secs(60);
    let decisions = loop {
        let decisions = explain(&engine, of(tenant)).await.decisions;
        let counted = decisions.iter().map(|decision| 1 + decision.suppressed).sum::<i64>();
        if counted == 201 {
            break decisions;
        }
        assert!(Instant::now() < until, "{counted} of 201 are accounted for");
        sleep(Duration::from_millis(20)).await;
    };
    // The burst, and one a second.
    assert!((6..=20).contains(&decisions.len()), "{}", decisions.len());
    engine.stop().await;

    let mut settings = crate::house::settings();
    settings.quota.refusals.retention = Duration::from_secs(1);
    settings.quota.housekeeping.every = Duration::from_millis(100);
    let engine = house.engine_with(settings).await;
    while !explain(&engine, of(tenant)).await.decisions.is_empty() {
        assert!(Instant::now() < until + Duration::from_secs(10), "old refusals are not deleted");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_subject_has_its_own_decisions_newest_first_and_its_own_holders_oldest_first() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        limit("requests", "user", "request", 100, rolling(60_000)),
    ]);
    let (ada, bob) = (UserId::new_v7(), UserId::new_v7());
    let mut client = engine.client();
    let mut expected = Vec::new();
    for step in 0..4 {
        for user in [&ada, &bob] {
            let request = by(tenant, user, &[("nano_usd", 5), ("request", 1)]);
            settled(&mut client, &request, &[("nano_usd", 5), ("request", 1)]).await;
            if user == &ada {
                expected.push(request.reservation_id);
            }
        }
        if step == 1 {
            let request = by(tenant, &ada, &[("nano_usd", 1_000)]);
            client.reserve(request.clone()).await.unwrap_err();
            expected.push(request.reservation_id);
        }
    }
    let held: Vec<ReserveRequest> = (0..3).map(|_| by(tenant, &ada, &[("nano_usd", 1)])).collect();
    for request in &held {
        client.reserve(request.clone()).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    client.reserve(by(tenant, &bob, &[("nano_usd", 1)])).await.unwrap();
    expected.reverse();

    let mut request = of(tenant);
    request.subject.as_mut().unwrap().user = names::user(&tenant, &ada);
    let ids = |decisions: &[Decision]| decisions.iter().map(|one| one.reservation_id.clone()).collect::<Vec<_>>();
    let answer = explain_with(&engine, request.clone(), 5).await;
    assert_eq!((ids(&answer.decisions), answer.more_decisions), (expected.clone(), false));
    let oldest_first: Vec<String> = held.iter().map(|request| request.reservation_id.clone()).collect();
    assert_eq!((ids(&answer.holders), answer.more_holders), (oldest_first.clone(), false));
    assert_eq!(answer.limits.iter().map(|limit| limit.limit.as_str()).collect::<Vec<_>>(), ["budget", "requests"]);

    let answer = explain(&engine, ExplainRequest { page_size: 2, ..request }).await;
    assert_eq!((ids(&answer.decisions), answer.more_decisions), (expected[..2].to_vec(), true));
    assert_eq!((ids(&answer.holders), answer.more_holders), (oldest_first[..2].to_vec(), true));
    // Of the whole organisation there are both.
    assert_eq!(explain(&engine, of(tenant)).await.decisions.len(), 9);
    assert_eq!(explain(&engine, of(tenant)).await.holders.len(), 4);
}

#[tokio::test]
async fn a_tenant_is_explained_its_own_decisions_only() {
    let house = House::new().await;
    let engine = house.engine().await;
    let ours = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let theirs = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let mut client = engine.client();
    // Which of the operator's keys served it, a tenant need not know.
    let mut own = reserve(ours, &[("nano_usd", 1)]);
    own.subject.as_mut().unwrap().labels.insert("provider_key".to_owned(), "main".to_owned());
    client.reserve(own.clone()).await.unwrap();
    let (ended, held, refused) = (
        reserve(theirs, &[("nano_usd", 1)]),
        reserve(theirs, &[("nano_usd", 1)]),
        reserve(theirs, &[("nano_usd", 101)]),
    );
    settled(&mut client, &ended, &[("nano_usd", 1)]).await;
    client.reserve(held.clone()).await.unwrap();
    client.reserve(refused.clone()).await.unwrap_err();
    explain_with(&engine, of(theirs), 2).await;

    let mut facade = engine.as_service("facade");
    let reader = engine.deployment.principal(ours, None, None, [Scope::QuotaRead]);
    for request in [
        of(theirs),
        about(&ended.reservation_id),
        about(&held.reservation_id),
        about(&refused.reservation_id),
        ExplainRequest { subject: Some(subject(ours)), ..about(&ended.reservation_id) },
    ] {
        let failure = open(facade.explain(reader.request(request)).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::NotFound);
    }
    // Who names no organisation means the own one.
    let answer = facade.explain(reader.request(ExplainRequest::default())).await.unwrap().into_inner();
    assert_eq!((answer.organization, answer.decisions.len()), (names::organization(&ours), 0));
    let labels = |holders: &[Decision]| holders[0].subject.as_ref().unwrap().labels.len();
    assert_eq!(labels(&answer.holders), 0);
    assert_eq!(labels(&explain(&engine, of(ours)).await.holders), 1, "an operator must");
    let other = engine.deployment.principal(ours, None, None, [Scope::AiInvoke, Scope::UsageRead]);
    let failure = open(facade.explain(other.request(of(ours))).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
    let failure = open(engine.as_service("usage").explain(of(ours)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn what_nobody_knows_and_what_makes_no_sense_is_refused() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut operator = engine.as_service("operator");
    for (request, reason) in [
        (about(&id()), ErrorReason::NotFound),
        (about("x"), ErrorReason::InvalidArgument),
        (ExplainRequest::default(), ErrorReason::InvalidArgument),
        (ExplainRequest { page_size: -1, ..about(&id()) }, ErrorReason::InvalidArgument),
        (of(OrganizationId::new_v7()), ErrorReason::Unspecified),
    ] {
        let answer = open(operator.explain(request.clone()).await);
        match reason {
            // Nobody's limits, and nothing decided: that is an answer.
            ErrorReason::Unspecified => assert_eq!(answer.unwrap().missing.len(), 1),
            reason => assert_eq!(answer.unwrap_err().reason(), reason, "{request:?}"),
        }
    }
}

#[tokio::test]
async fn without_postgres_the_present_is_explained_and_refusals_cost_nobody_anything() {
    let server = PostgresServer::start().await.unwrap();
    let house = House::at(&server).await;
    let mut settings = settings();
    settings.database.acquire_timeout = Duration::from_millis(300);
    settings.quota.refusals.queue = 2;
    settings.quota.refusals.burst = 1_000;
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 1, rolling(600_000))]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
    server.kill9().await;
    for _ in 0..50 {
        let failure = open(client.reserve(reserve(tenant, &[("request", 1)])).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    }
    let answer = explain(&engine, of(tenant)).await;
    assert_eq!((answer.holders.len(), answer.limits.len(), answer.decisions.len()), (1, 1, 0));
    assert_eq!(answer.missing, ["the last decisions: postgres is not available"]);
    server.restart().await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let _ = client.reserve(reserve(tenant, &[("request", 1)])).await;
        let answer = explain(&engine, of(tenant)).await;
        if answer.decisions.iter().any(|decision| decision.suppressed > 0) {
            break;
        }
        assert!(Instant::now() < until, "what was dropped is not counted: {:?}", answer.decisions.len());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_value_that_begins_as_another_is_another() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "feature", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let with = |feature: &str| {
        let mut request = reserve(tenant, &[("nano_usd", 1)]);
        request.subject.as_mut().unwrap().labels.insert("feature".to_owned(), feature.to_owned());
        request
    };
    let (chat, chats) = (with("chat"), with("chats"));
    for request in [&chat, &chats] {
        settled(&mut client, request, &[("nano_usd", 1)]).await;
    }
    for request in [chat, chats] {
        let about = ExplainRequest { subject: request.subject.clone(), ..Default::default() };
        let decisions = explain(&engine, about).await.decisions;
        let ids: Vec<_> = decisions.iter().map(|decision| decision.reservation_id.as_str()).collect();
        assert_eq!(ids, [request.reservation_id.as_str()]);
    }
}

#[tokio::test]
async fn what_the_books_have_as_ended_is_held_by_nobody() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let request = reserve(tenant, &[("nano_usd", 1)]);
    let handle = engine.client().reserve(request.clone()).await.unwrap().into_inner();
    assert_eq!(explain(&engine, about(&request.reservation_id)).await.holders.len(), 1);
    // Written, and the store was not told before the process died.
    let query =
        "insert into quota.settlements (reservation_id, organization_id, released, estimated, amounts, batch, handle)
        values ($1, $2, true, false, '{}', $1, $3)";
    let id: weir_types::ReservationId = request.reservation_id.parse().unwrap();
    let insert = sqlx::query(query).bind(id.as_uuid()).bind(tenant.as_uuid()).bind(handle.handle.to_vec());
    insert.execute(house.database().await.pool()).await.unwrap();
    let answer = explain(&engine, about(&request.reservation_id)).await;
    let states: Vec<_> = answer.decisions.iter().map(Decision::state).collect();
    assert_eq!((answer.holders, states), (Vec::new(), vec![DecisionState::Released]));
}

#[tokio::test]
async fn that_money_was_closed_after_a_loss_is_a_refusal_too() {
    let house = House::new().await;
    let mut settings = settings();
    settings.quota.rebuild.window = Duration::from_secs(5);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    settled(&mut client, &reserve(tenant, &[("nano_usd", 1)]), &[("nano_usd", 1)]).await;
    house.lose().await;
    let request = reserve(tenant, &[("nano_usd", 1)]);
    let failure = open(client.reserve(request.clone()).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Rebuilding, "{failure}");
    let decisions = explain_with(&engine, of(tenant), 2).await.decisions;
    let [refused, _] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(refused.reservation_id, request.reservation_id);
    assert_eq!((refused.state(), refused.reason()), (DecisionState::Refused, ErrorReason::Rebuilding));
}
