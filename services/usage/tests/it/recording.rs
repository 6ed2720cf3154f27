use std::time::Duration;

use tokio::time::Instant;
use weir_types::{OrganizationId, ProviderKeyId};
use weir_usage::app::Answer;
use weir_usage::domain::{Disposition, Event, Invalid};
use weir_usage::storage::events;

use crate::fixture::{Usage, config, database, estimate_of, event, without_use};

#[tokio::test]
async fn an_event_reads_back_as_it_was_recorded() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let full = event(organization);
    let bare = Event { user: None, api_key: None, quantities: [].into(), estimated: true, ..event(organization) };
    let own = Event { provider_key: Some(ProviderKeyId::new_v7()), cost_nano_usd: 0, ..event(organization) };
    let free = without_use(organization, 7);
    let events = [full, bare, own, free];
    assert_eq!(usage.record(&events).await, [const { Disposition::Recorded }; 4]);
    let unit = usage.store.begin().await.unwrap();
    let changes = events::changes(&unit, 0, 10).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(changes.iter().map(|change| change.position).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(changes.into_iter().map(|change| change.recorded.event).collect::<Vec<_>>(), events);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn repeated_events_are_told_from_new_ones_in_one_batch() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let (known, new, reused) = (event(organization), event(organization), event(organization));
    usage.record(&[known.clone(), reused.clone()]).await;
    let other = Event { output_tokens: 7, ..reused.clone() };
    let own = Event { provider_key: Some(ProviderKeyId::new_v7()), cost_nano_usd: 0, ..reused };
    assert_eq!(
        usage.record(&[known, new.clone(), other, own, new]).await,
        [
            Disposition::Duplicate,
            Disposition::Recorded,
            Disposition::IdReused,
            Disposition::IdReused,
            Disposition::Duplicate
        ]
    );
    assert_eq!(usage.count("count(*) from usage.events").await, 3);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn a_late_actual_supersedes_the_estimate_and_the_original_is_kept() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let actual = event(OrganizationId::new_v7());
    let estimate = estimate_of(&actual);
    assert_eq!(usage.record(std::slice::from_ref(&estimate)).await, [Disposition::Recorded]);
    assert_eq!(usage.record(&[actual.clone(), event(actual.organization)]).await[0], Disposition::Superseded);
    // The take-over that comes even later learns what counts.
    assert_eq!(usage.record(&[estimate]).await, [Disposition::DuplicateEstimate(Box::new(actual.clone()))]);
    assert_eq!(usage.record(&[actual]).await, [Disposition::Duplicate]);
    assert_eq!(usage.count("count(*) from usage.event_originals where estimated and output_tokens = 4000").await, 1);
    assert_eq!(usage.count("head from usage.feed").await, 3);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn an_estimate_that_is_superseded_in_its_own_batch_is_kept_too() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let actual = event(OrganizationId::new_v7());
    let dispositions = usage.record(&[estimate_of(&actual), actual]).await;
    assert_eq!(dispositions, [Disposition::Recorded, Disposition::Superseded]);
    assert_eq!(usage.count("count(*) from usage.event_originals where position = 0").await, 1);
    assert_eq!(usage.count("head from usage.feed").await, 1);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn an_actual_of_another_user_moves_the_sums_from_one_to_the_other() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let actual = event(OrganizationId::new_v7());
    let estimate = Event { user: None, model: "gpt-4.1".to_owned(), ..estimate_of(&actual) };
    usage.record(&[estimate]).await;
    assert_eq!(usage.record(&[actual]).await, [Disposition::Superseded]);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn a_bad_event_does_not_fail_the_others() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let bad = Event { output_tokens: -1, ..event(organization) };
    let unreadable = Err(Invalid::new("event_id", "not an id"));
    let answers =
        usage.recorder.record(vec![Ok(event(organization)), unreadable, Ok(bad), Ok(event(organization))], None).await;
    let answers = answers.unwrap();
    assert!(matches!(&answers[0], Answer::Taken(Disposition::Recorded)));
    assert!(matches!(&answers[1], Answer::Invalid(invalid) if invalid.field == "event_id"));
    assert!(matches!(&answers[2], Answer::Invalid(invalid) if invalid.field == "output_tokens"));
    assert!(matches!(&answers[3], Answer::Taken(Disposition::Recorded)));
    assert_eq!(usage.count("count(*) from usage.events").await, 2);
}

#[tokio::test]
async fn sums_that_would_not_fit_fail_only_the_call_that_brings_them() {
    let database = database().await;
    // All calls of this test share one transaction.
    let mut config = config();
    config.recording.linger = Duration::from_millis(500);
    config.recording.linger_below = 5000;
    let usage = Usage::start_with(&database.url, &config);
    let organization = OrganizationId::new_v7();
    let template = Event { cost_nano_usd: weir_types::MAX_AMOUNT, ..event(organization) };
    let huge: Vec<_> =
        (0..1100).map(|_| Ok(Event { id: weir_types::ReservationId::new_v7(), ..template.clone() })).collect();
    let (refused, recorded) =
        tokio::join!(usage.recorder.record(huge, None), usage.recorder.record(vec![Ok(event(organization))], None));
    assert_eq!(refused.unwrap_err().to_string(), "the sums of these events do not fit into 64 bits");
    assert_eq!(recorded.unwrap(), [Answer::Taken(Disposition::Recorded)]);
    usage.assert_balanced().await;
}

#[tokio::test]
async fn calls_that_come_together_share_a_transaction_and_get_their_own_answers() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let known = event(organization);
    usage.record(std::slice::from_ref(&known)).await;
    let committed = usage.count("pg_current_xact_id()::text::bigint").await;
    let calls = (0..40).map(|at| {
        let events = if at % 2 == 0 { vec![event(organization)] } else { vec![known.clone(), event(organization)] };
        let usage = &usage;
        async move { usage.record(&events).await }
    });
    let answers = futures::future::join_all(calls).await;
    for (at, answer) in answers.iter().enumerate() {
        if at % 2 == 0 {
            assert_eq!(*answer, [Disposition::Recorded]);
        } else {
            assert_eq!(*answer, [Disposition::Duplicate, Disposition::Recorded]);
        }
    }
    let transactions = usage.count("pg_current_xact_id()::text::bigint").await - committed;
    assert!(transactions < 20, "{transactions} transactions for 40 calls");
    usage.assert_balanced().await;
}

#[tokio::test]
async fn what_waits_at_shutdown_is_recorded_and_what_comes_after_is_refused() {
    let database = database().await;
    let mut config = config();
    config.recording.linger = Duration::from_millis(300);
    let usage = Usage::start_with(&database.url, &config);
    let waiting = event(OrganizationId::new_v7());
    let later = vec![Ok(event(waiting.organization))];
    let (recorded, refused) = tokio::join!(usage.record(std::slice::from_ref(&waiting)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        usage.recorder.close();
        usage.recorder.record(later, None).await
    });
    assert_eq!(recorded, [Disposition::Recorded]);
    assert_eq!(refused.unwrap_err().to_string(), "usage is shutting down");
    usage.shutdown.cancel();
    usage.tasks.close();
    tokio::time::timeout(Duration::from_secs(60), usage.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_again() {
    let database = database().await;
    let mut config = config();
    config.recording.queue = 5000;
    let usage = Usage::start_with(&database.url, &config);
    let organization = OrganizationId::new_v7();
    let mut blocker = usage.pool.get().await.unwrap();
    let lock = blocker.transaction().await.unwrap();
    lock.execute("select from usage.feed for update", &[]).await.unwrap();
    let events = |count: usize| (0..count).map(|_| Ok(event(organization))).collect::<Vec<_>>();
    let deadline = Some(Instant::now() + Duration::from_secs(60));
    let (recorded, ()) = tokio::join!(usage.recorder.record(events(4990), deadline), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let refused = usage.recorder.record(events(11), deadline).await.unwrap_err();
        let weir_usage::Error::Overloaded { retry_after } = refused else { panic!("{refused}") };
        assert!(retry_after >= Duration::from_millis(50) && retry_after <= Duration::from_secs(5));
        lock.rollback().await.unwrap();
    });
    assert_eq!(recorded.unwrap().len(), 4990);
    assert_eq!(usage.recorder.record(events(11), deadline).await.unwrap().len(), 11);
}

#[tokio::test]
async fn a_call_with_more_events_than_the_contract_allows_is_refused() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let events = (0..5001).map(|_| Ok(event(organization))).collect();
    assert!(matches!(usage.recorder.record(events, None).await, Err(weir_usage::Error::TooManyEvents(5001))));
    assert_eq!(usage.recorder.record(Vec::new(), None).await.unwrap(), []);
}
