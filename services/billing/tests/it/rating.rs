use std::time::Duration;

use tokio_stream::StreamExt as _;
use weir_proto::billing::v1::{RatedEvent, ScanRatedEventsRequest};
use weir_proto::usage::v1::UsageEvent;
use weir_types::OrganizationId;

use crate::house::{House, Replica, eventually, file, name, open, settings};
use crate::usage::event;

pub(crate) async fn scan(replica: &Replica, organization: &str, after: &str) -> Vec<RatedEvent> {
    let request = ScanRatedEventsRequest { organization: organization.to_owned(), after: after.to_owned() };
    let mut stream = open(replica.operator().scan_rated_events(request).await).unwrap();
    let mut events = Vec::new();
    while let Some(chunk) = stream.next().await {
        events.extend(chunk.unwrap().events);
    }
    events
}

#[tokio::test]
async fn usage_becomes_rated_events_and_a_balanced_ledger() {
    let (house, replica) = House::with_replica().await;
    let organizations = [OrganizationId::new_v7(), OrganizationId::new_v7()];
    for n in 0..50 {
        house.usage.record(event(organizations[n % 2], 10, 1));
    }
    let status = replica.rated().await;
    assert_eq!(status.ledger_sum_nano_usd, 0);
    assert_eq!((status.rated_nano_usd, status.receivable_nano_usd), (50 * 2_100, 50 * 2_100));
    assert_eq!((status.price_mismatches, status.unrated_events), (0, 0));
    let all = scan(&replica, "", "").await;
    assert_eq!(all.len(), 50);
    assert!(all.is_sorted_by_key(|event| event.event_id.clone()));
    let own = scan(&replica, &name(organizations[0]), "").await;
    assert_eq!(own.len(), 25);
    assert_eq!(scan(&replica, "", &all[9].event_id).await, all[10..]);
    let bad = ScanRatedEventsRequest { after: "x".to_owned(), ..ScanRatedEventsRequest::default() };
    let failure = open(replica.operator().scan_rated_events(bad).await).map(|_| ()).unwrap_err();
    assert_eq!(failure.fields()[0].subject, "after");
}

#[tokio::test]
async fn what_supersedes_an_estimate_posts_the_difference() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    let estimate = UsageEvent { estimated: true, ..event(organization, 1_000, 1_000) };
    house.usage.record(estimate.clone());
    assert_eq!(replica.rated().await.rated_nano_usd, 750_000);
    let actual = UsageEvent { event_id: estimate.event_id.clone(), ..event(organization, 10, 10) };
    house.usage.record(actual);
    let status = replica.rated().await;
    assert_eq!((status.rated_nano_usd, status.receivable_nano_usd, status.ledger_sum_nano_usd), (7_500, 7_500, 0));
    let events = scan(&replica, "", "").await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].revision, events[0].estimated, events[0].input_tokens), (2, false, 10));
}

#[tokio::test]
async fn a_price_that_is_not_the_books_is_counted_and_not_charged() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    let wrong = UsageEvent { cost_nano_usd: 1, ..event(organization, 10, 10) };
    house.usage.record(wrong.clone());
    let status = replica.rated().await;
    assert_eq!((status.price_mismatches, status.rated_nano_usd), (1, 7_500));
    house.usage.record(UsageEvent { cost_nano_usd: 7_500, ..wrong });
    assert_eq!(replica.rated().await.price_mismatches, 0, "superseded by the right price");
}

#[tokio::test]
async fn an_event_without_a_price_waits_for_one_and_holds_nothing_up() {
    let house = House::new().await;
    let replica = house.replica(settings()).await.unwrap();
    let organization = OrganizationId::new_v7();
    let later = "2027-01-01".to_owned();
    let unpriced = UsageEvent { price_version: later, ..event(organization, 10, 10) };
    house.usage.record(unpriced.clone());
    house.usage.record(UsageEvent { event_id: "not an id".to_owned(), ..event(organization, 10, 10) });
    house.usage.record(event(organization, 10, 10));
    let status = replica.rated().await;
    assert_eq!((status.unrated_events, status.rated_nano_usd), (2, 7_500));
    replica.kill();

    let folder = tempfile::tempdir().unwrap();
    let mut richer = settings();
    richer.billing.price_books = vec![file(
        &folder,
        "2027.toml",
        "version = \"2027-01-01\"\neffective = \"2027-01-01T00:00:00Z\"\n[[provider]]\nname = \"openai\"\nsource = \"x\"\n\
         as_of = \"2026-12-31\"\n\
         models = [{ name = \"gpt-4o-mini\", input = \"0.15\", output = \"0.60\", context = 10, max_output = 5 }]\n",
    )];
    let replica = house.replica(richer).await.unwrap();
    eventually("the price has come", async || replica.status().await.rated_nano_usd == 15_000).await;
    let status = replica.status().await;
    assert_eq!((status.unrated_events, status.receivable_nano_usd, status.ledger_sum_nano_usd), (1, 15_000, 0));

    house.usage.record(UsageEvent { event_id: unpriced.event_id, ..event(organization, 20, 20) });
    assert_eq!(replica.rated().await.rated_nano_usd, 22_500);
}

#[tokio::test]
async fn of_two_replicas_one_rates_and_the_other_takes_over() {
    let house = House::new().await;
    let one = house.replica(settings()).await.unwrap();
    let two = house.replica(settings()).await.unwrap();
    let organization = OrganizationId::new_v7();
    for n in 0..200 {
        house.usage.record(event(organization, 10, 10));
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(two.rated().await.rated_nano_usd, 200 * 7_500);
    one.kill();
    for _ in 0..20 {
        house.usage.record(event(organization, 10, 10));
    }
    let status = two.rated().await;
    assert_eq!((status.rated_nano_usd, status.receivable_nano_usd), (220 * 7_500, 220 * 7_500));
    two.stop().await;
    let three = house.replica(settings()).await.unwrap();
    house.usage.record(event(organization, 10, 10));
    assert_eq!(three.rated().await.rated_nano_usd, 221 * 7_500);
}

#[tokio::test]
async fn a_cursor_that_was_set_back_rates_nothing_twice() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    for _ in 0..30 {
        house.usage.record(event(organization, 10, 10));
    }
    let before = replica.rated().await;
    replica.kill();
    let mut superuser = house.superuser().await;
    sqlx::query("update billing.rating_cursor set position = 3, lease_end = null")
        .execute(&mut superuser)
        .await
        .unwrap();
    let replica = house.replica(settings()).await.unwrap();
    assert_eq!(replica.rated().await, before);
}

#[tokio::test]
async fn a_feed_that_has_lost_its_end_is_seen() {
    let (house, replica) = House::with_replica().await;
    house.usage.record(event(OrganizationId::new_v7(), 10, 10));
    let head = replica.rated().await.feed_head;
    let mut superuser = house.superuser().await;
    sqlx::query("update billing.rating_cursor set position = 1000").execute(&mut superuser).await.unwrap();
    let status = replica.status().await;
    assert_eq!((status.rated_position, status.feed_head), (1_000, head));
}

/// CPU seconds that a process has used, in and out of the kernel (Linux).
fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

/// What rating costs. Prints the figures; run it by name.
#[tokio::test]
#[ignore = "a measurement"]
async fn rating_in_bulk_costs_microseconds_an_event() {
    const EVENTS: u32 = 200_000;
    let mut house = House::new().await;
    house.usage = house.usage.clone().batch(1_000);
    let organizations: Vec<_> = (0..20).map(|_| OrganizationId::new_v7()).collect();
    house.usage.record_new((0..EVENTS as usize).map(|n| event(organizations[n % 20], 100, 20)));
    let mut superuser = house.superuser().await;
    let own = cpu_seconds("self");
    let began = std::time::Instant::now();
    let replica = house.replica(settings()).await.unwrap();
    let position = "select position from billing.rating_cursor";
    while sqlx::query_scalar::<_, i64>(position).fetch_one(&mut superuser).await.unwrap() < i64::from(EVENTS) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let own = cpu_seconds("self") - own;
    let backends: Vec<i32> =
        sqlx::query_scalar("select pid from pg_stat_activity").fetch_all(&mut superuser).await.unwrap();
    let postgres: f64 = backends.iter().map(|pid| cpu_seconds(&pid.to_string())).sum();
    let each = |seconds: f64| seconds * 1e6 / f64::from(EVENTS);
    eprintln!(
        "{EVENTS} events in {took:?}; CPU an event: Postgres {:.1} µs, this process (usage included) {:.1} µs",
        each(postgres),
        each(own)
    );
    let status = replica.rated().await;
    assert_eq!(status.rated_nano_usd, i64::from(EVENTS) * (100 * 150 + 20 * 600));
}
