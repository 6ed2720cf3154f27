//! Periods that end, and clocks that are wrong.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Months, TimeDelta, Utc};
use tokio::time::sleep;
use weir_proto::billing::v1::{AnchoredWindow, CalendarUnit, window};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::{ExtendRequest, Subject};
use weir_redis::redis::cmd;
use weir_types::{ManualClock, UserId, names};

use crate::billing::{calendar, lifetime, limit};
use crate::house::{House, balance, balance_of, commit, open, reserve, settings, subject};

/// A monthly window whose next period begins in so many milliseconds.
pub(crate) fn ends_in(millis: i64) -> window::Kind {
    let anchor = Utc::now().checked_sub_months(Months::new(2)).unwrap() + TimeDelta::milliseconds(millis);
    let nanos = i32::try_from(anchor.timestamp_subsec_nanos()).unwrap();
    let anchor = Some(prost_types::Timestamp { seconds: anchor.timestamp(), nanos });
    window::Kind::Anchored(AnchoredWindow { anchor, time_zone: String::new() })
}

#[tokio::test]
async fn what_was_reserved_in_a_period_is_charged_to_it() {
    let house = House::new().await;
    let (one, two) = (house.engine().await, house.engine().await);
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, ends_in(1_500))]);
    let (mut client, mut other) = (one.client(), two.client());
    let old = reserve(tenant, &[("nano_usd", 80)]);
    let old_handle = client.reserve(old.clone()).await.unwrap().into_inner();
    let failure = open(other.reserve(reserve(tenant, &[("nano_usd", 80)])).await).unwrap_err();
    let wait = failure.retry_after().unwrap();
    assert!(wait < Duration::from_millis(1_500), "{wait:?}");
    sleep(wait).await;
    let new = reserve(tenant, &[("nano_usd", 80)]);
    let new_handle = client.reserve(new.clone()).await.unwrap().into_inner();
    other.commit(commit(&old, &old_handle, &[("nano_usd", 70)])).await.unwrap();
    let budget = balance(&mut other, tenant, "budget").await;
    assert_eq!((budget.used, budget.held), (80, 80));
    client.commit(commit(&new, &new_handle, &[("nano_usd", 60)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 60);
    let totals: Vec<i64> = sqlx::query_scalar("select committed from quota.counters order by period")
        .fetch_all(house.database().await.pool())
        .await
        .unwrap();
    assert_eq!(totals, [70, 60]);
    one.assert_balanced().await;
}

#[tokio::test]
async fn an_engine_whose_clock_is_wrong_counts_by_the_stores() {
    let house = House::new().await;
    let right = house.engine().await;
    let tenant = house.tenant(vec![
        limit("day", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Day)),
        limit("minute", "organization", "request", 1_000, calendar(CalendarUnit::Minute)),
        limit("month", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Month)),
    ]);
    for days in [-40, 40] {
        let clock = Arc::new(ManualClock::new(Utc::now() + TimeDelta::days(days)));
        let wrong = house.engine_at(settings(), clock).await;
        for engine in [&right, &wrong, &right, &wrong] {
            engine.client().reserve(reserve(tenant, &[("nano_usd", 10), ("request", 1)])).await.unwrap();
        }
    }
    for limit in ["day", "month"] {
        assert_eq!(balance(&mut right.client(), tenant, limit).await.used, 80, "{limit}");
    }
    assert_eq!(right.status().await.drifts, []);
}

#[tokio::test]
async fn a_period_that_has_begun_stays_begun_when_the_stores_clock_goes_back() {
    let house = House::new().await;
    let engine = house.engine().await;
    let kind = ends_in(3_600_000);
    let window::Kind::Anchored(anchored) = &kind else { unreachable!() };
    let anchor = anchored.anchor.unwrap();
    let anchor = anchor.seconds * 1_000 + i64::from(anchor.nanos / 1_000_000);
    let window = weir_quota::domain::Window::Anchored(anchor, chrono_tz::UTC);
    let next = window.period(Utc::now().timestamp_millis()).unwrap().end;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, kind)]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 10)])).await.unwrap();
    // The counter stands in the period that begins in an hour, as if the clock had been there before it went back.
    let redis = house.connection().await;
    let key = format!("wq3:{{{}}}s", tenant.as_uuid().simple());
    let mut state: Vec<u8> = redis.command(cmd("HGET").arg(&key).arg("o")).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    state[40..48].copy_from_slice(&(next as f64).to_le_bytes());
    redis.command::<()>(cmd("HSET").arg(&key).arg("o").arg(&state)).await.unwrap();

    client.reserve(reserve(tenant, &[("nano_usd", 80)])).await.unwrap();
    let failure = open(client.reserve(reserve(tenant, &[("nano_usd", 20)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "10 and 80 of 100 in the later period");
}

#[tokio::test]
async fn data_that_survived_a_restart_is_not_trusted_and_not_counted_twice() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", 100, lifetime()),
        // Of the user, so that no durable counter makes the store load these anew.
        limit("hour", "user", "request", 100, calendar(CalendarUnit::Hour)),
        limit("minute", "user", "request", 100, crate::billing::rolling(60_000)),
        limit("day", "organization", "token", 100, crate::billing::rolling(86_400_000)),
        limit("at-once", "organization", "concurrent", 3, crate::billing::concurrent()),
    ]);
    let mut client = engine.client();
    let whose = Subject { user: names::user(&tenant, &UserId::new_v7()), ..subject(tenant) };
    let mut spent = reserve(tenant, &[("nano_usd", 30), ("token", 30), ("request", 30)]);
    spent.subject = Some(whose.clone());
    let handle = client.reserve(spent.clone()).await.unwrap().into_inner();
    client.commit(commit(&spent, &handle, &[("nano_usd", 20), ("token", 20), ("request", 20)])).await.unwrap();
    let mut alive = reserve(tenant, &[("nano_usd", 50), ("token", 50), ("request", 50), ("concurrent", 1)]);
    alive.subject = Some(whose.clone());
    let handle = client.reserve(alive.clone()).await.unwrap().into_inner();
    // Another server took over with a copy of the data, which may lack the last second.
    let redis = house.connection().await;
    redis.command::<()>(cmd("HSET").arg("wq3:epoch").arg("server").arg("another")).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        open(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err().reason(),
        ErrorReason::Rebuilding
    );
    // A rate goes on meanwhile, and takes the counters over into the new generation.
    let mut rate = reserve(tenant, &[("request", 5)]);
    rate.subject = Some(whose.clone());
    let rated = client.reserve(rate.clone()).await.unwrap().into_inner();
    client.commit(commit(&rate, &rated, &[("request", 5)])).await.unwrap();
    for expected in [2, 1] {
        let leases = vec![crate::house::extension(&alive, &handle, 30)];
        let answer = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
        assert_eq!(answer.outcomes, [expected], "announced, then extended");
    }
    for (limit, used) in [("budget", 70), ("hour", 75), ("minute", 75), ("day", 70), ("at-once", 1)] {
        assert_eq!(balance_of(&mut client, whose.clone(), limit).await.used, used, "{limit}");
    }
    client.commit(commit(&alive, &handle, &[("nano_usd", 40), ("token", 40), ("request", 40)])).await.unwrap();
    for (limit, used) in [("budget", 60), ("hour", 65), ("minute", 65), ("day", 60), ("at-once", 0)] {
        let state = balance_of(&mut client, whose.clone(), limit).await;
        assert_eq!((state.used, state.held), (used, 0), "{limit}");
    }
    engine.assert_balanced().await;
}
