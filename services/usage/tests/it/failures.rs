use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_database::migrate;
use weir_testing::PostgresServer;
use weir_types::OrganizationId;
use weir_usage::app::Answer;
use weir_usage::domain::{Disposition, Event};
use weir_usage::{Error, MIGRATION};

use crate::fixture::{Usage, config, database, event, master, taken};

/// A transaction that holds the feed, so that recording waits in the middle of its own.
const HOLD: &str = "begin; select from usage.feed for update";

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_leaves_nothing_and_a_retry_records_once() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let events: Vec<Event> = (0..100).map(|_| event(organization)).collect();
    let blocker = usage.pool.get().await.unwrap();
    blocker.batch_execute(HOLD).await.unwrap();
    let calls = || events.iter().cloned().map(Ok).collect::<Vec<_>>();
    let (failed, ()) = tokio::join!(usage.recorder.record(calls(), None), async {
        let killed = "count(pg_terminate_backend(pid)) from pg_stat_activity \
             where wait_event_type = 'Lock' and datname = current_database()";
        while usage.count(killed).await == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        blocker.batch_execute("rollback").await.unwrap();
    });
    assert!(matches!(failed, Err(Error::Database(weir_database::Error::Unavailable(_)))), "{failed:?}");
    assert_eq!(usage.count("count(*) from usage.events").await, 0);
    assert_eq!(usage.count("count(*) from usage.rollups_hourly").await, 0);
    assert_eq!(usage.record(&events).await, vec![Disposition::Recorded; 100]);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn a_transaction_over_its_time_is_given_up_and_its_events_can_be_sent_again() {
    let database = database().await;
    let mut config = config();
    config.recording.commit_timeout = Duration::from_millis(200);
    let usage = Usage::start_with(&database.url, &config);
    let event = event(OrganizationId::new_v7());
    let blocker = usage.pool.get().await.unwrap();
    blocker.batch_execute(HOLD).await.unwrap();
    let failed = usage.recorder.record(vec![Ok(event.clone())], None).await;
    assert_eq!(failed, Err(Error::CommitTimeout));
    blocker.batch_execute("rollback").await.unwrap();
    assert_eq!(usage.record(&[event]).await, [Disposition::Recorded]);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn a_caller_whose_deadline_passes_is_not_kept_and_what_was_not_begun_is_not_recorded() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let (first, second) = (event(organization), event(organization));
    let blocker = usage.pool.get().await.unwrap();
    blocker.batch_execute(HOLD).await.unwrap();
    let (recorded, ()) = tokio::join!(usage.record(std::slice::from_ref(&first)), async {
        sleep(Duration::from_millis(100)).await;
        let deadline = Instant::now() + Duration::from_millis(50);
        let gone = usage.recorder.record(vec![Ok(second.clone())], Some(deadline)).await;
        assert_eq!(gone, Err(Error::DeadlineExceeded));
        blocker.batch_execute("rollback").await.unwrap();
    });
    assert_eq!(recorded, [Disposition::Recorded]);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(usage.record(&[second]).await, [Disposition::Recorded]);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_killed_postgres_and_retries_record_once() {
    let server = PostgresServer::start().await.unwrap();
    migrate(&server.url().into(), &master(), &[MIGRATION]).await.unwrap();
    let usage = Usage::start(server.url());
    let organization = OrganizationId::new_v7();
    let senders = (0..4).map(|_| async {
        let mut acknowledged = 0;
        let mut failures = 0;
        for _ in 0..60 {
            let batch: Vec<Event> = (0..20).map(|_| event(organization)).collect();
            // As the broker does: the same events again until they are acknowledged.
            acknowledged += loop {
                match usage.recorder.record(batch.iter().cloned().map(Ok).collect(), None).await {
                    Ok(answers) => break answers.into_iter().map(taken).map(counted).sum::<usize>(),
                    Err(_) => {
                        failures += 1;
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            };
        }
        (acknowledged, failures)
    });
    let chaos = async {
        for _ in 0..2 {
            sleep(Duration::from_millis(150)).await;
            server.kill9().await;
            server.restart().await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(futures::future::join_all(senders), chaos);
    assert_eq!(sent.iter().map(|(acknowledged, _)| acknowledged).sum::<usize>(), 4 * 60 * 20);
    assert!(sent.iter().any(|(_, failures)| *failures > 0), "the outage came after the end");
    assert_eq!(usage.count("count(*) from usage.events").await, 4 * 60 * 20);
    usage.assert_balanced().await;
}

fn counted(disposition: Disposition) -> usize {
    assert!(matches!(disposition, Disposition::Recorded | Disposition::Duplicate), "{disposition:?}");
    1
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let usage = Usage::start("postgres://postgres@127.0.0.1:1/none");
    let answer: Result<Vec<Answer>, Error> =
        usage.recorder.record(vec![Ok(event(OrganizationId::new_v7()))], None).await;
    assert!(matches!(answer, Err(Error::Database(weir_database::Error::Unavailable(_)))), "{answer:?}");
}
