use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use weir_types::OrganizationId;
use weir_usage::Error;
use weir_usage::app::{Progress, watch_changes};
use weir_usage::domain::Event;

use crate::fixture::{Usage, database, estimate_of, event};

async fn until_now(usage: &Usage, after: i64) -> Vec<Progress> {
    let feed = watch_changes(usage.store.clone(), &usage.feed, after, true, usage.shutdown.clone()).await.unwrap();
    feed.try_collect().await.unwrap()
}

fn positions(parts: &[Progress]) -> Vec<i64> {
    parts.iter().flat_map(|part| &part.changes).map(|change| change.position).collect()
}

#[tokio::test]
async fn a_feed_until_now_sends_all_that_is_durable_and_ends() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let nothing = until_now(&usage, 0).await;
    assert_eq!((nothing.len(), nothing[0].head), (1, 0));
    let organization = OrganizationId::new_v7();
    let events: Vec<Event> = (0..2300).map(|_| event(organization)).collect();
    usage.record(&events).await;
    let parts = until_now(&usage, 0).await;
    assert!(parts.iter().all(|part| part.changes.len() <= 1000 && part.head == 2300));
    assert_eq!(positions(&parts), (1..=2300).collect::<Vec<_>>());
    assert_eq!(positions(&until_now(&usage, 2298).await), [2299, 2300]);
    assert_eq!(positions(&until_now(&usage, 2300).await), [0; 0]);
}

#[tokio::test]
async fn a_superseded_event_moves_to_the_head_with_its_next_revision() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let actual = event(OrganizationId::new_v7());
    usage.record(&[estimate_of(&actual), event(actual.organization)]).await;
    usage.record(std::slice::from_ref(&actual)).await;
    let changes: Vec<_> = until_now(&usage, 0).await.into_iter().flat_map(|part| part.changes).collect();
    assert_eq!(changes.iter().map(|c| (c.position, c.recorded.revision)).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
    assert_eq!(changes[1].recorded.event, actual);
}

#[tokio::test]
async fn an_open_feed_begins_at_once_follows_and_ends_with_the_service() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let feed = watch_changes(usage.store.clone(), &usage.feed, 0, false, usage.shutdown.clone()).await.unwrap();
    let mut feed = std::pin::pin!(feed);
    let first = feed.next().await.unwrap().unwrap();
    assert_eq!((first.changes.len(), first.head), (0, 0));
    for expected in 1..=3 {
        usage.record(&[event(organization)]).await;
        let next = tokio::time::timeout(Duration::from_secs(60), feed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((next.changes[0].position, next.head), (expected, expected));
    }
    usage.shutdown.cancel();
    assert!(matches!(feed.next().await, Some(Err(Error::ShuttingDown))));
}

#[tokio::test]
async fn a_place_beyond_the_head_is_refused_rather_than_waited_for() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let refused = watch_changes(usage.store.clone(), &usage.feed, 1, false, usage.shutdown.clone()).await.err();
    assert_eq!(refused, Some(Error::BeyondHead { after: 1, head: 0 }));
}
