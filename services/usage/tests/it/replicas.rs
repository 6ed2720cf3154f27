use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use weir_types::{OrganizationId, ReservationId};
use weir_usage::app::watch_changes;
use weir_usage::domain::{Disposition, Event};

use crate::fixture::{Usage, database, estimate_of, event};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_events_from_two_replicas_at_once_are_recorded_once() {
    let database = database().await;
    let replicas = [Usage::start(&database.url), Usage::start(&database.url)];
    let organization = OrganizationId::new_v7();
    let events: Vec<Event> = (0..300).map(|_| event(organization)).collect();
    let calls = (0..60).map(|at| {
        let (replica, events) = (&replicas[at % 2], &events);
        // Each batch overlaps with those before and after it, and is sent in both directions.
        let mut batch: Vec<Event> = events.iter().cycle().skip(at * 5).take(40).cloned().collect();
        if at % 3 == 0 {
            batch.reverse();
        }
        async move { (batch.clone(), replica.record(&batch).await) }
    });
    let mut recorded: HashMap<ReservationId, usize> = HashMap::new();
    for (batch, dispositions) in futures::future::join_all(calls).await {
        for (event, disposition) in batch.iter().zip(dispositions) {
            match disposition {
                Disposition::Recorded => *recorded.entry(event.id).or_default() += 1,
                Disposition::Duplicate => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(recorded.len(), 300);
    assert!(recorded.values().all(|times| *times == 1));
    assert_eq!(replicas[0].count("count(distinct position) from usage.events").await, 300);
    assert_eq!(replicas[0].count("head from usage.feed").await, 300);
    replicas[0].assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_one_replica_misses_nothing_that_any_replica_records() {
    let database = database().await;
    let replicas = [Usage::start(&database.url), Usage::start(&database.url), Usage::start(&database.url)];
    let watched = &replicas[2];
    let feed = watch_changes(watched.store.clone(), &watched.feed, 0, false, watched.shutdown.clone()).await.unwrap();
    let organization = OrganizationId::new_v7();
    let senders = replicas[..2].iter().map(|replica| async move {
        for _ in 0..50 {
            let actual = event(organization);
            let batch = [estimate_of(&actual), event(organization), event(organization)];
            replica.record(&batch).await;
            replica.record(&[actual]).await;
        }
    });
    let watching = async {
        let mut feed = std::pin::pin!(feed);
        let mut latest: HashMap<ReservationId, (i32, bool)> = HashMap::new();
        let mut last = 0;
        while latest.len() < 300 || latest.values().any(|(_, estimated)| *estimated) {
            let progress = tokio::time::timeout(Duration::from_secs(60), feed.next()).await.unwrap().unwrap().unwrap();
            for change in progress.changes {
                assert!(change.position > last, "{} after {last}", change.position);
                last = change.position;
                let recorded = change.recorded;
                let before = latest.insert(recorded.event.id, (recorded.revision, recorded.event.estimated));
                assert!(before.is_none_or(|(revision, _)| revision < recorded.revision));
            }
            assert!(progress.head >= last);
        }
        last
    };
    let (last, _) = tokio::join!(watching, futures::future::join_all(senders));
    assert_eq!(last, replicas[0].count("head from usage.feed").await);
    replicas[0].assert_balanced().await;
}
