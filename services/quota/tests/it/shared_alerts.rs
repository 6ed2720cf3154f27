//! Soft alerts of limits across tenants: to operators, each once per period, whichever processes see it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_proto::quota::v1::*;
use weir_types::names;

use crate::alerts::fired;
use crate::house::{Client, Engine, House, commit, open, release, reserve, storm};
use crate::shared::{all, engines, labelled, one};

fn warning(name: &str, scope: &str, unit: &str, amount: &str, window: &str) -> String {
    one(name, scope, unit, amount, window) + "alert_percents = [50, 80, 100]\n"
}

fn nobody() -> weir_types::OrganizationId {
    uuid::Uuid::nil().into()
}

/// All that operators have been told, oldest first.
async fn told(engine: &Engine) -> Vec<Alert> {
    let request = ListAlertsRequest { parent: names::organization(&nobody()), ..Default::default() };
    let mut alerts = engine.as_service("operator").list_alerts(request).await.unwrap().into_inner().alerts;
    alerts.reverse();
    alerts
}

/// Nothing more comes although there was time for it.
async fn stays(engine: &Engine, alerts: &[(i32, i64)]) {
    sleep(Duration::from_millis(300)).await;
    assert_eq!(fired(engine, nobody(), alerts.len()).await, alerts);
}

#[tokio::test]
async fn each_percentage_fires_once_over_all_processes_and_tenants() {
    let house = House::new().await;
    let text = warning("all", "product", "nano_usd", "'0.0000001'", "calendar = 'month', time_zone = 'UTC'");
    let engines = engines(&house, 2, &text).await;
    let tenants: Vec<_> = (0..5).map(|_| house.tenant(Vec::new())).collect();
    let spend = async |count: usize| {
        storm(&all(&engines), count, async |mut client: Client, number| {
            let request = reserve(tenants[number % 5], &[("nano_usd", 1)]);
            let handle = client.reserve(request.clone()).await.unwrap().into_inner();
            client.commit(commit(&request, &handle, &[("nano_usd", 1)])).await.unwrap();
        })
        .await;
    };
    spend(49).await;
    stays(&engines[0], &[]).await;
    spend(1).await;
    assert_eq!(fired(&engines[0], nobody(), 1).await, [(50, 50)]);
    // What is held counts, and what comes back afterwards takes nothing back.
    let request = reserve(tenants[0], &[("nano_usd", 31)]);
    let mut client = engines[1].client();
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    assert_eq!(fired(&engines[1], nobody(), 2).await, [(50, 50), (80, 81)]);
    client.release(release(&request, &handle)).await.unwrap();
    let handle = {
        let again = reserve(tenants[1], &[("nano_usd", 40)]);
        (client.reserve(again.clone()).await.unwrap().into_inner(), again)
    };
    // A request that an unused limit would admit: the limit is in the way, though 10 are left. One that never fits says nothing.
    for amount in [101, 11] {
        open(client.reserve(reserve(tenants[2], &[("nano_usd", amount)])).await).unwrap_err();
    }
    assert_eq!(fired(&engines[0], nobody(), 3).await, [(50, 50), (80, 81), (100, 90)]);
    client.release(release(&handle.1, &handle.0)).await.unwrap();
    spend(50).await;
    for engine in &engines {
        open(engine.client().reserve(reserve(tenants[2], &[("nano_usd", 1)])).await).unwrap_err();
    }
    stays(&engines[1], &[(50, 50), (80, 81), (100, 90)]).await;

    let alerts = told(&engines[0]).await;
    let last = &alerts[2];
    assert_eq!((last.limit.as_str(), last.scope.as_str(), last.unit.as_str()), ("all", "product", "nano_usd"));
    assert_eq!((last.subject.as_str(), last.cap, last.held, last.refused), ("", 100, 40, true));
    assert!(last.period_start_time.is_some() && last.period_end_time.is_some());
    assert_eq!(alerts.iter().map(|alert| alert.refused).collect::<Vec<_>>(), [false, false, true]);
    // Tenants have none of it.
    assert_eq!(fired(&engines[0], tenants[0], 0).await, []);
}

#[tokio::test]
async fn each_value_warns_for_itself_and_so_do_rates_and_seats() {
    let house = House::new().await;
    let text = warning("rate", "provider", "request", "4", "rolling = '1h'")
        + &warning("at-once", "provider", "concurrent", "2", "concurrent = true");
    let engines = engines(&house, 1, &text).await;
    let tenant = house.tenant(Vec::new());
    let mut client = engines[0].client();
    for (provider, count) in [("openai", 2), ("anthropic", 1)] {
        for _ in 0..count {
            let request = labelled(reserve(tenant, &[("request", 1), ("concurrent", 1)]), "provider", provider);
            client.reserve(request).await.unwrap();
        }
    }
    let wanted = [
        ("at-once", "anthropic", 50, 1),
        ("at-once", "openai", 50, 1),
        ("at-once", "openai", 80, 2),
        ("at-once", "openai", 100, 2),
        ("rate", "openai", 50, 2),
    ];
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let alerts = told(&engines[0]).await;
        let mut told: Vec<_> = alerts
            .iter()
            .map(|alert| (alert.limit.as_str(), alert.subject.as_str(), alert.percent, alert.used))
            .collect();
        told.sort_unstable();
        if told == wanted {
            break;
        }
        assert!(Instant::now() < until, "{told:?}");
        sleep(Duration::from_millis(50)).await;
    }
    // Operators hear of it on the stream, too.
    let watch = WatchAlertsRequest { position: "0".to_owned(), ..Default::default() };
    let mut stream = engines[0].as_service("operator").watch_alerts(watch).await.unwrap().into_inner();
    let heard = loop {
        if let Some(alert) = stream.message().await.unwrap().unwrap().alert {
            break alert;
        }
    };
    assert!(heard.name.starts_with("organizations/00000000-0000-0000-0000-000000000000/alerts/"), "{heard:?}");
}
