//! Soft alerts: each fires once per counter, period and percentage, whichever process sees it and whatever is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use weir_proto::billing::v1::Limit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_testing::PostgresServer;
use weir_types::{OrganizationId, UserId, names};

use crate::billing::{alerting, concurrent, lifetime, limit, rolling};
use crate::clocks::ends_in;
use crate::house::{Client, Engine, House, commit, extension, open, reserve, settings, storm};

fn budget(amount: i64) -> Limit {
    alerting(limit("budget", "organization", "nano_usd", amount, lifetime()), &[50, 80, 100])
}

async fn alerts(client: &mut Client, organization: OrganizationId) -> Vec<Alert> {
    let request = ListAlertsRequest { parent: names::organization(&organization), ..Default::default() };
    client.list_alerts(request).await.unwrap().into_inner().alerts
}

/// Percentages and use, oldest first, once there are so many.
pub(crate) async fn fired(engine: &Engine, organization: OrganizationId, wanted: usize) -> Vec<(i32, i64)> {
    let until = Instant::now() + Duration::from_secs(60);
    let mut client = engine.as_service("operator");
    loop {
        let alerts = alerts(&mut client, organization).await;
        if alerts.len() >= wanted || Instant::now() > until {
            return alerts.iter().rev().map(|alert| (alert.percent, alert.used)).collect();
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing more comes although there was time for it.
async fn stays(engine: &Engine, organization: OrganizationId, alerts: &[(i32, i64)]) {
    assert_eq!(fired(engine, organization, alerts.len()).await, alerts);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(fired(engine, organization, alerts.len()).await, alerts);
}

#[tokio::test]
async fn each_percentage_fires_once_over_processes_restarts_and_rebuilds() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![budget(100)]);
    let held = storm(&[&one, &two], 100, async |mut client, _| {
        let request = reserve(tenant, &[("nano_usd", 1)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        (request, handle)
    })
    .await;
    let alerts = fired(&one, tenant, 3).await;
    assert_eq!(alerts.iter().map(|(percent, _)| *percent).collect::<Vec<_>>(), [50, 80, 100]);
    assert!(alerts.iter().all(|(percent, used)| used >= &i64::from(*percent)), "{alerts:?}");
    // Refusals by both, a process that knows nothing, and a store that has lost everything.
    for engine in [&one, &two] {
        engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap_err();
    }
    one.stop().await;
    let three = house.engine().await;
    three.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap_err();
    house.lose().await;
    let leases: Vec<LeaseExtension> = held.iter().map(|(request, handle)| extension(request, handle, 30)).collect();
    let until = Instant::now() + Duration::from_secs(60);
    while three.client().extend(ExtendRequest { leases: leases.clone() }).await.is_err() {
        assert!(Instant::now() < until, "nothing was announced");
    }
    loop {
        let failure = open(three.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
        if failure.reason() == ErrorReason::BudgetExhausted {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    stays(&three, tenant, &alerts).await;
}

#[tokio::test]
async fn nothing_is_lost_while_postgres_is_away() {
    let server = PostgresServer::start().await.unwrap();
    let house = House::at(&server).await;
    let mut settings = settings();
    settings.database.acquire_timeout = Duration::from_millis(300);
    settings.quota.alerts.queue = 1;
    let engine = house.engine_with(settings).await;
    let dying = house.engine().await;
    let tenant = house.tenant(vec![alerting(limit("requests", "user", "request", 10, rolling(600_000)), &[50])]);
    let users: Vec<UserId> = (0..9).map(|_| UserId::new_v7()).collect();
    let by = |user: &UserId, requests| {
        let mut request = reserve(tenant, &[("request", requests)]);
        request.subject.as_mut().unwrap().user = names::user(&tenant, user);
        request
    };
    for user in &users {
        engine.client().reserve(by(user, 4)).await.unwrap();
    }
    dying.client().reserve(by(&users[8], 0)).await.unwrap();
    server.kill9().await;
    // One is seen by a process that dies with it; of the others there are more than the queue takes.
    dying.client().reserve(by(&users[8], 2)).await.unwrap();
    dying.stop().await;
    for user in &users[..8] {
        engine.client().reserve(by(user, 2)).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    server.restart().await.unwrap();
    // What waited is written by itself: one in hand, one in the queue.
    let until = Instant::now() + Duration::from_secs(60);
    let mut alerts = fired(&engine, tenant, 2).await;
    assert!(alerts.len() >= 2, "what waited was lost: {alerts:?}");
    // What was dropped is due again with the next reservation.
    while alerts.len() < users.len() && Instant::now() < until {
        for user in &users {
            let _ = engine.client().reserve(by(user, 0)).await;
        }
        sleep(Duration::from_millis(100)).await;
        alerts = fired(&engine, tenant, 2).await;
    }
    stays(&engine, tenant, &vec![(50, 6); users.len()]).await;
}

#[tokio::test]
async fn a_raised_cap_warns_anew_and_a_lowered_one_only_of_what_it_newly_reaches() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![budget(100)]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 60)])).await.unwrap();
    assert_eq!(fired(&engine, tenant, 1).await, [(50, 60)]);
    let change = async |amount, limits: &mut Client| {
        house.billing.set(tenant, vec![budget(amount)]);
        let until = Instant::now() + Duration::from_secs(60);
        while crate::house::balance(limits, tenant, "budget").await.cap != amount {
            assert!(Instant::now() < until, "the cap never changed");
            sleep(Duration::from_millis(1)).await;
        }
    };
    change(70, &mut client).await;
    client.reserve(reserve(tenant, &[("nano_usd", 0)])).await.unwrap();
    assert_eq!(fired(&engine, tenant, 2).await, [(50, 60), (80, 60)]);
    // Nor does a process that did not see the first ones tell them of the lower cap.
    let other = house.engine().await;
    other.client().reserve(reserve(tenant, &[("nano_usd", 0)])).await.unwrap();
    stays(&other, tenant, &[(50, 60), (80, 60)]).await;
    other.stop().await;
    change(1_000, &mut client).await;
    client.reserve(reserve(tenant, &[("nano_usd", 439)])).await.unwrap();
    stays(&engine, tenant, &[(50, 60), (80, 60)]).await;
    client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap();
    assert_eq!(fired(&engine, tenant, 3).await, [(50, 60), (80, 60), (50, 500)]);
    change(100, &mut client).await;
    client.reserve(reserve(tenant, &[("nano_usd", 0)])).await.unwrap();
    // 80 % was told of a cap of 70.
    stays(&engine, tenant, &[(50, 60), (80, 60), (50, 500), (80, 500), (100, 500)]).await;
}

#[tokio::test]
async fn the_next_period_warns_again() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![alerting(limit("budget", "organization", "nano_usd", 100, ends_in(2_000)), &[80])]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 80)])).await.unwrap();
    let wait = open(client.reserve(reserve(tenant, &[("nano_usd", 80)])).await).unwrap_err().retry_after().unwrap();
    sleep(wait).await;
    client.reserve(reserve(tenant, &[("nano_usd", 90)])).await.unwrap();
    assert_eq!(fired(&engine, tenant, 2).await, [(80, 80), (80, 90)]);
    let alerts = alerts(&mut engine.as_service("operator"), tenant).await;
    assert_eq!(alerts[0].period_start_time, alerts[1].period_end_time);
    assert!(alerts[0].period_start_time.is_some());
}

#[tokio::test]
async fn a_rolling_window_warns_again_when_use_fell_and_a_window_has_passed() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![
        alerting(limit("rate", "organization", "request", 10, rolling(1_000)), &[50]),
        alerting(limit("at-once", "organization", "concurrent", 4, concurrent()), &[100]),
    ]);
    let mut client = one.client();
    client.reserve(reserve(tenant, &[("request", 5)])).await.unwrap();
    assert_eq!(fired(&one, tenant, 1).await, [(50, 5)]);
    // The other process sees it too, and is told that it has fired.
    two.client().reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
    sleep(Duration::from_millis(1_100)).await;
    client.reserve(reserve(tenant, &[("request", 1)])).await.unwrap();
    client.reserve(reserve(tenant, &[("request", 4)])).await.unwrap();
    stays(&one, tenant, &[(50, 5), (50, 5)]).await;
    for _ in 0..4 {
        client.reserve(reserve(tenant, &[("concurrent", 1)])).await.unwrap();
    }
    stays(&one, tenant, &[(50, 5), (50, 5), (100, 4)]).await;
}

#[tokio::test]
async fn a_refusal_means_that_a_limit_is_used_up_unless_it_could_never_fit() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![budget(100)]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 70)])).await.unwrap();
    client.reserve(reserve(tenant, &[("nano_usd", 101)])).await.unwrap_err();
    stays(&engine, tenant, &[(50, 70)]).await;
    client.reserve(reserve(tenant, &[("nano_usd", 31)])).await.unwrap_err();
    stays(&engine, tenant, &[(50, 70), (100, 70)]).await;
    let alerts = alerts(&mut engine.as_service("operator"), tenant).await;
    assert_eq!(alerts.iter().map(|alert| alert.refused).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_commit_of_more_than_was_reserved_warns_without_another_reservation() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![budget(100)]);
    let mut client = engine.client();
    let request = reserve(tenant, &[("nano_usd", 10)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(&request, &handle, &[("nano_usd", 85)])).await.unwrap();
    assert_eq!(fired(&engine, tenant, 2).await, [(50, 85), (80, 85)]);
}

#[tokio::test]
async fn a_stream_tells_of_every_alert_and_goes_on_where_it_was() {
    let house = House::new().await;
    let mut settings = settings();
    settings.quota.alerts.poll_every = Duration::from_millis(20);
    settings.quota.alerts.watchers = 1;
    let (one, two) = (house.engine().await, house.engine_with(settings).await);
    let (ours, theirs) = (house.tenant(vec![budget(100)]), house.tenant(vec![budget(100)]));
    let mut operator = two.as_service("operator");
    let watch =
        |position: &str| WatchAlertsRequest { organization: names::organization(&ours), position: position.to_owned() };
    let mut stream = operator.watch_alerts(watch("")).await.unwrap().into_inner();
    let next = async |stream: &mut tonic::Streaming<WatchAlertsResponse>| {
        timeout(Duration::from_secs(60), stream.message()).await.unwrap().unwrap().unwrap()
    };
    let heartbeat = next(&mut stream).await;
    assert_eq!((heartbeat.alert, heartbeat.position.as_str()), (None, "0"));
    let full = two.as_service("operator").watch_alerts(watch("")).await.map(drop).map_err(weir_rpc::Failure::from);
    assert_eq!(full.unwrap_err().reason(), ErrorReason::Overloaded);

    let mut client = one.client();
    client.reserve(reserve(theirs, &[("nano_usd", 100)])).await.unwrap();
    client.reserve(reserve(ours, &[("nano_usd", 50)])).await.unwrap();
    let first = next(&mut stream).await;
    let alert = first.alert.unwrap();
    assert_eq!(
        (alert.limit.as_str(), alert.unit.as_str(), alert.scope.as_str()),
        ("budget", "nano_usd", "organization")
    );
    assert_eq!((alert.percent, alert.cap, alert.used, alert.held), (50, 100, 50, 50));
    assert!(alert.name.starts_with(&format!("{}/alerts/", names::organization(&ours))), "{}", alert.name);
    drop(stream);

    client.reserve(reserve(ours, &[("nano_usd", 50)])).await.unwrap();
    fired(&one, ours, 3).await;
    let mut stream = loop {
        // The place of the one that was dropped is free when the server has noticed.
        match operator.watch_alerts(watch(&first.position)).await {
            Ok(stream) => break stream.into_inner(),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    let mut percents = Vec::new();
    while percents.len() < 2 {
        percents.extend(next(&mut stream).await.alert.map(|alert| alert.percent));
    }
    assert_eq!(percents, [80, 100]);
    two.stop().await;
    assert!(timeout(Duration::from_secs(60), stream.message()).await.unwrap().is_ok_and(|end| end.is_none()));
}

#[tokio::test]
async fn a_list_has_pages_newest_first_and_tokens_of_its_own() {
    let house = House::new().await;
    let engine = house.engine().await;
    let (tenant, other) = (house.tenant(vec![budget(100)]), house.tenant(vec![budget(100)]));
    engine.client().reserve(reserve(tenant, &[("nano_usd", 100)])).await.unwrap();
    fired(&engine, tenant, 3).await;
    let mut operator = engine.as_service("operator");
    let request = |tenant: &OrganizationId, page_size, token: &str| ListAlertsRequest {
        parent: names::organization(tenant),
        page_size,
        page_token: token.to_owned(),
    };
    let first = operator.list_alerts(request(&tenant, 2, "")).await.unwrap().into_inner();
    let last = operator.list_alerts(request(&tenant, 2, &first.next_page_token)).await.unwrap().into_inner();
    let percents: Vec<i32> = first.alerts.iter().chain(&last.alerts).map(|alert| alert.percent).collect();
    assert_eq!((percents, last.next_page_token.as_str()), (vec![100, 80, 50], ""));
    for (request, reason) in [
        (request(&other, 2, &first.next_page_token), ErrorReason::InvalidPageToken),
        (request(&tenant, -1, ""), ErrorReason::InvalidArgument),
        (
            ListAlertsRequest { parent: "organizations/x".to_owned(), ..Default::default() },
            ErrorReason::InvalidArgument,
        ),
    ] {
        assert_eq!(open(operator.list_alerts(request).await).unwrap_err().reason(), reason);
    }
}
