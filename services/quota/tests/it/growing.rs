//! Reservations that hold more than they began with.

use std::time::Duration;

use tokio::time::sleep;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_rpc::Failure;
use weir_types::OrganizationId;

use crate::alerts::fired;
use crate::billing::{alerting, calendar, concurrent, lifetime, limit, rolling};
use crate::explaining::{about, explain_with};
use crate::house::{Client, House, amounts, balance, commit, extension, open, release, reserve, settings, storm};
use crate::shared::{engines, one};

/// An extension with amounts.
fn growth(reserved: &ReserveRequest, handle: &ReserveResponse, whole: &[(&str, i64)]) -> ExtendRequest {
    let lease = LeaseExtension { amounts: amounts(whole), ..extension(reserved, handle, 30) };
    ExtendRequest { leases: vec![lease] }
}

async fn grow(
    client: &mut Client,
    reserved: &ReserveRequest,
    handle: &ReserveResponse,
    whole: &[(&str, i64)],
) -> Result<ReserveResponse, Failure> {
    let answer = open(client.extend(growth(reserved, handle, whole)).await)?;
    Ok(answer.grown.expect("what is held grows or is refused"))
}

async fn budget(client: &mut Client, tenant: OrganizationId) -> (i64, i64) {
    let budget = balance(client, tenant, "budget").await;
    (budget.used, budget.held)
}

#[tokio::test]
async fn what_grows_holds_the_whole_and_is_charged_once() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, calendar(CalendarUnit::Month)),
        limit("a-day", "organization", "nano_usd", 100, rolling(86_400_000)),
        limit("tokens", "organization", "token", 1_000, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 1, concurrent()),
    ]);
    let request = reserve(tenant, &[("nano_usd", 60), ("token", 10), ("concurrent", 1)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();

    // What it holds itself is not in its way.
    let grown = grow(&mut client, &request, &handle, &[("nano_usd", 100)]).await.unwrap();
    assert_ne!(grown.handle, handle.handle);
    let of = |name: &str| grown.limits.iter().find(|limit| limit.limit == name).unwrap().clone();
    assert_eq!((of("budget").used, of("budget").held, of("at-once").used), (100, 100, 1));
    for limit in ["budget", "a-day"] {
        let state = balance(&mut client, tenant, limit).await;
        assert_eq!((state.used, state.held), (100, 100), "{limit}");
    }
    assert_eq!(balance(&mut client, tenant, "tokens").await.used, 10, "what is not named stays");
    assert_eq!(balance(&mut client, tenant, "at-once").await.used, 1, "it is one call still");

    // The same again changes nothing, with the handle of before as well; less than it holds is no growth.
    for known in [&handle, &grown] {
        let again = grow(&mut client, &request, known, &[("nano_usd", 100)]).await.unwrap();
        assert_eq!(again.handle, grown.handle);
    }
    let failure = grow(&mut client, &request, &grown, &[("nano_usd", 99)]).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument, "{failure}");
    // Its first request, repeated late, is another one now.
    let failure = open(client.reserve(request.clone()).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::IdReused);

    client.commit(commit(&request, &grown, &[("nano_usd", 70), ("token", 7)])).await.unwrap();
    for limit in ["budget", "a-day"] {
        let state = balance(&mut client, tenant, limit).await;
        assert_eq!((state.used, state.held), (70, 0), "{limit}");
    }
    assert_eq!(balance(&mut client, tenant, "tokens").await.used, 7);
    let settled = client.extend(growth(&request, &grown, &[("nano_usd", 100)])).await.unwrap().into_inner();
    assert_eq!((settled.outcomes, settled.grown), (vec![LeaseOutcome::Settled.into()], None));
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_growth_that_does_not_fit_changes_nothing_and_names_who_refuses() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        limit("a-day", "organization", "nano_usd", 90, rolling(86_400_000)),
        limit("tokens", "organization", "token", 1_000, rolling(60_000)),
    ]);
    let request = reserve(tenant, &[("nano_usd", 60), ("token", 10)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    let other = reserve(tenant, &[("nano_usd", 20)]);
    let other_handle = client.reserve(other.clone()).await.unwrap().into_inner();
    let before = house.contents(tenant).await;

    let failure = grow(&mut client, &request, &handle, &[("nano_usd", 71), ("token", 900)]).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
    let refused: Vec<_> = failure.violations().iter().map(|violation| violation.subject.clone()).collect();
    assert_eq!(refused, ["a-day"], "{failure}");
    // Of what others hold: its own is not counted against it.
    assert_eq!(failure.figure("a-day", "used"), Some("20"));
    assert_eq!(format!("{:?}", house.contents(tenant).await), format!("{before:?}"));

    let failure = grow(&mut client, &request, &handle, &[("nano_usd", 101)]).await.unwrap_err();
    assert_eq!(failure.violations().len(), 2, "{failure}");
    grow(&mut client, &request, &handle, &[("nano_usd", 70)]).await.unwrap();
    client.release(release(&other, &other_handle)).await.unwrap();
    let whole = grow(&mut client, &request, &handle, &[("nano_usd", 90), ("request", 4)]).await.unwrap();
    assert_eq!(budget(&mut client, tenant).await, (90, 90));
    client.release(release(&request, &whole)).await.unwrap();
    assert_eq!(budget(&mut client, tenant).await, (0, 0));
    engine.assert_balanced().await;

    let mut two = growth(&request, &handle, &[("nano_usd", 1)]);
    two.leases.push(two.leases[0].clone());
    let failure = open(client.extend(two).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
}

#[tokio::test]
async fn of_many_that_grow_at_once_exactly_those_that_fit_do() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 75, lifetime()),
        limit("a-day", "organization", "nano_usd", 76, rolling(86_400_000)),
    ]);
    let reserved = storm(&[&one, &two], 50, async |mut client, _| {
        let request = reserve(tenant, &[("nano_usd", 1)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        (request, handle)
    })
    .await;
    let grown = storm(&[&one, &two], 50, async |mut client, number| {
        let (request, handle) = reserved[number].clone();
        let grown = grow(&mut client, &request, &handle, &[("nano_usd", 2)]).await;
        (request, grown.unwrap_or(handle))
    })
    .await;
    assert_eq!(budget(&mut one.client(), tenant).await, (75, 75));
    storm(&[&one, &two], 50, async |mut client, number| {
        let (request, handle) = &grown[number];
        client.commit(commit(request, handle, &[("nano_usd", 1)])).await.unwrap();
    })
    .await;
    assert_eq!(budget(&mut two.client(), tenant).await, (50, 0));
    one.assert_balanced().await;
}

#[tokio::test]
async fn a_settlement_with_the_handle_from_before_the_growth_counts_once() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, calendar(CalendarUnit::Day)),
        limit("a-day", "organization", "nano_usd", 100, rolling(86_400_000)),
        limit("tokens", "organization", "token", 100, rolling(60_000)),
        limit("requests", "organization", "request", 100, calendar(CalendarUnit::Hour)),
    ]);
    let asked = [("nano_usd", 10), ("token", 10), ("request", 1)];
    for (used, handles) in [(0, false), (35, false), (35, true)] {
        let request = reserve(tenant, &asked);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        grow(&mut client, &request, &handle, &[("nano_usd", 40), ("token", 30), ("request", 3)]).await.unwrap();
        let known = if handles { ReserveResponse::default() } else { handle };
        if used == 0 {
            client.release(release(&request, &known)).await.unwrap();
        } else {
            client.commit(commit(&request, &known, &[("nano_usd", used), ("token", 3), ("request", 1)])).await.unwrap();
        }
    }
    for (limit, used) in [("budget", 70), ("a-day", 70), ("tokens", 6), ("requests", 2)] {
        let state = balance(&mut client, tenant, limit).await;
        assert_eq!((state.used, state.held), (used, 0), "{limit}");
    }
    engine.assert_balanced().await;
}

#[tokio::test]
async fn what_has_grown_counts_as_a_whole_after_a_loss() {
    let house = House::new().await;
    let mut settings = settings();
    settings.quota.rebuild.window = Duration::from_secs(5);
    let engine = house.engine_with(settings).await;
    let mut client = engine.client();
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let request = reserve(tenant, &[("nano_usd", 10)]);
    let first = client.reserve(request.clone()).await.unwrap().into_inner();
    let grown = grow(&mut client, &request, &first, &[("nano_usd", 40)]).await.unwrap();
    house.lose().await;
    // It is announced with what it holds, and grows on when money is open again.
    let failure = grow(&mut client, &request, &grown, &[("nano_usd", 90)]).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Rebuilding, "{failure}");
    assert_eq!(house.contents(tenant).await.held.len(), 1, "announced");
    let last = loop {
        match grow(&mut client, &request, &grown, &[("nano_usd", 90)]).await {
            Ok(grown) => break grown,
            Err(failure) => assert!(failure.is_transient(), "{failure}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(budget(&mut client, tenant).await, (90, 90));
    client.commit(commit(&request, &last, &[("nano_usd", 80)])).await.unwrap();
    assert_eq!(budget(&mut client, tenant).await, (80, 0));
    engine.assert_balanced().await;
}

#[tokio::test]
async fn on_a_stream_too_a_reservation_grows() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let request = reserve(tenant, &[("nano_usd", 60)]);
    let handle = engine.client().reserve(request.clone()).await.unwrap().into_inner();
    let extend = |whole: i64, tag: u64| Operation {
        operation: Some(operation::Operation::Extend(
            growth(&request, &handle, &[("nano_usd", whole)]).leases.remove(0),
        )),
        timeout: None,
        tag,
    };
    let message = OperateRequest { operations: vec![extend(100, 1), extend(101, 2)] };
    let mut answers = engine.client().operate(futures::stream::iter([message])).await.unwrap().into_inner();
    let mut outcomes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        outcomes.extend(answer.outcomes);
    }
    outcomes.sort_by_key(|outcome| outcome.tag);
    let [grown, refused] = outcomes.try_into().unwrap();
    let Some(operation_outcome::Outcome::Extended(grown)) = grown.outcome else { panic!("{grown:?}") };
    assert_eq!(grown.outcome, i32::from(LeaseOutcome::Extended));
    let Some(operation_outcome::Outcome::Refused(refused)) = refused.outcome else { panic!("{refused:?}") };
    assert_eq!(refused.refused_by, ["budget"]);
    engine.client().release(release(&request, &grown.grown.unwrap())).await.unwrap();
    engine.assert_balanced().await;
}

/// Across tenants the slices of several processes are in it: exactly what fits, whichever process a growth goes through.
#[tokio::test]
async fn what_grows_takes_more_of_limits_across_tenants_exactly() {
    let house = House::new().await;
    for (run, window) in ["rolling = '60s'", "calendar = 'month', time_zone = 'UTC'"].into_iter().enumerate() {
        let text = one(&format!("all-{run}"), "product", "nano_usd", "'0.00000001'", window);
        let engines = engines(&house, 2, &text).await;
        let (mut one, mut two) = (engines[0].client(), engines[1].client());
        let (alice, bob) = (house.tenant(Vec::new()), house.tenant(Vec::new()));
        let request = reserve(alice, &[("nano_usd", 4)]);
        let handle = one.reserve(request.clone()).await.unwrap().into_inner();
        let grown = grow(&mut two, &request, &handle, &[("nano_usd", 7)]).await.unwrap();
        let grown = grow(&mut one, &request, &grown, &[("nano_usd", 9)]).await.unwrap();
        let other = reserve(bob, &[("nano_usd", 1)]);
        let others = two.reserve(other.clone()).await.unwrap().into_inner();
        for mut client in [one.clone(), two.clone()] {
            let failure = open(client.reserve(reserve(bob, &[("nano_usd", 1)])).await).unwrap_err();
            assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
            let failure = grow(&mut client, &request, &grown, &[("nano_usd", 10)]).await.unwrap_err();
            assert_eq!(failure.violations().len(), 1, "{failure}");
        }
        assert_eq!(engines[0].status().await.drifts, []);

        // The rest of all three parts is there for everybody.
        two.commit(commit(&request, &grown, &[("nano_usd", 6)])).await.unwrap();
        let failure = open(one.reserve(reserve(bob, &[("nano_usd", 4)])).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
        let last = reserve(bob, &[("nano_usd", 3)]);
        let rest = one.reserve(last.clone()).await.unwrap().into_inner();
        one.release(release(&last, &rest)).await.unwrap();
        two.commit(commit(&other, &others, &[("nano_usd", 1)])).await.unwrap();
        engines[1].assert_balanced().await;
        for engine in &engines {
            engine.stop().await;
        }
    }
}

#[tokio::test]
async fn of_limits_across_tenants_too_the_handle_from_before_the_growth_settles_once() {
    let house = House::new().await;
    for (run, window) in
        ["rolling = '60s'", "rolling = '1d'", "calendar = 'month', time_zone = 'UTC'"].iter().enumerate()
    {
        let text = one(&format!("old-{run}"), "product", "nano_usd", "'0.00000001'", window);
        let engine = engines(&house, 1, &text).await.remove(0);
        let mut client = engine.client();
        let (alice, bob) = (house.tenant(Vec::new()), house.tenant(Vec::new()));
        let request = reserve(alice, &[("nano_usd", 4)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        grow(&mut client, &request, &handle, &[("nano_usd", 9)]).await.unwrap();
        client.commit(commit(&request, &handle, &[("nano_usd", 6)])).await.unwrap();
        let failure = open(client.reserve(reserve(bob, &[("nano_usd", 5)])).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
        let last = reserve(bob, &[("nano_usd", 4)]);
        let rest = client.reserve(last.clone()).await.unwrap().into_inner();
        client.release(release(&last, &rest)).await.unwrap();
        engine.assert_balanced().await;
        engine.stop().await;
    }
}

/// What refuses a growth, whoever refuses it, as a refused reservation says it.
#[tokio::test]
async fn a_growth_that_limits_across_tenants_refuse_names_the_tenants_own_that_refuse_too() {
    let house = House::new().await;
    let text = one("all", "product", "nano_usd", "'0.000000012'", "calendar = 'month', time_zone = 'UTC'");
    let engine = &engines(&house, 1, &text).await[0];
    let mut client = engine.client();
    let tenant = house.tenant(vec![
        alerting(limit("budget", "organization", "nano_usd", 14, lifetime()), &[50, 100]),
        limit("a-day", "organization", "nano_usd", 11, rolling(86_400_000)),
        limit("tokens", "organization", "token", 50, rolling(60_000)),
        limit("at-once", "organization", "concurrent", 1, concurrent()),
    ]);
    let request = reserve(tenant, &[("nano_usd", 4), ("token", 40), ("concurrent", 1)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.reserve(reserve(tenant, &[("nano_usd", 1), ("token", 9)])).await.unwrap();
    let before = format!("{:?}", house.contents(tenant).await.held);

    let failure = grow(&mut client, &request, &handle, &[("nano_usd", 12), ("token", 42)]).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
    let refused: Vec<_> = failure.violations().iter().map(|violation| violation.subject.clone()).collect();
    assert_eq!(refused, ["a-day", "tokens", "all"], "{failure}");
    // Of its own what others hold and the whole of it; of those across tenants all that is held, and what it wants more.
    let told = |limit| ["cap", "used", "requested"].map(|figure| failure.figure(limit, figure).unwrap());
    assert_eq!(told("a-day"), ["11", "1", "12"]);
    assert_eq!(told("tokens"), ["50", "9", "42"]);
    assert_eq!(told("all"), ["12", "5", "8"]);
    let says = |limit, figure| failure.figure(limit, figure).is_some_and(|figure| figure.parse::<i64>().is_ok());
    let waits = |limit| says(limit, "retry_ms");
    assert_eq!([waits("a-day"), waits("tokens"), waits("all")], [false, true, true], "12 never fit into 11");
    let resets = |limit| says(limit, "reset_ms");
    assert_eq!([resets("a-day"), resets("tokens"), resets("all")], [true; 3]);
    assert_eq!(format!("{:?}", house.contents(tenant).await.held), before);

    // Where it would be the last that fits, the limit is in the way, whatever is used of it so far: that is all of it.
    let failure = grow(&mut client, &request, &handle, &[("nano_usd", 14)]).await.unwrap_err();
    assert_eq!(failure.violations().len(), 3, "{failure}");
    assert_eq!(fired(engine, tenant, 1).await, [(100, 5)]);
    let decisions = explain_with(engine, about(&request.reservation_id), 2).await.decisions;
    let refused = |decision: &Decision| {
        let names = decision.limits.iter().filter(|limit| limit.refused).map(|limit| limit.limit.clone());
        (decision.state(), names.collect::<Vec<_>>().join(" "))
    };
    let told: Vec<_> = decisions.iter().map(refused).collect();
    let expected = ["budget a-day all", "a-day tokens all"].map(|names| (DecisionState::Refused, names.to_owned()));
    assert_eq!(told, expected);
}
