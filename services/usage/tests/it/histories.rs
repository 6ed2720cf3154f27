//! Random histories against a model that is too simple to be wrong.

use std::collections::HashMap;

use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weir_types::{OrganizationId, ReservationId, UserId};
use weir_usage::domain::{Disposition, Event};

use crate::fixture::{Usage, database, event};

/// One event of a history, by small numbers, so that ids, amounts and keys repeat.
#[derive(Debug, Clone)]
struct Step {
    id: usize,
    source: usize,
    amount: i64,
    user: usize,
    hours_ago: i64,
    estimated: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (0..5usize, 0..2usize, 0..3i64, 0..3usize, 0..2i64, any::<bool>()).prop_map(
        |(id, source, amount, user, hours_ago, estimated)| Step { id, source, amount, user, hours_ago, estimated },
    )
}

/// What the books must say: the first of an id, or the first actual after an estimate.
#[derive(Default)]
struct Model(HashMap<(String, ReservationId), Event>);

impl Model {
    fn record(&mut self, event: &Event) -> Disposition {
        let key = (event.source.clone(), event.id);
        let Some(known) = self.0.get(&key) else {
            self.0.insert(key, event.clone());
            return Disposition::Recorded;
        };
        if known == event {
            Disposition::Duplicate
        } else if event.estimated {
            Disposition::DuplicateEstimate(Box::new(known.clone()))
        } else if known.estimated {
            self.0.insert(key, event.clone());
            Disposition::Superseded
        } else {
            Disposition::IdReused
        }
    }
}

#[test]
fn whatever_is_sent_in_whatever_batches_the_books_say_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (database, usage) = runtime.block_on(async {
        let database = database().await;
        let usage = Usage::start(&database.url);
        (database, usage)
    });
    let history = prop::collection::vec(prop::collection::vec(step(), 1..8), 1..10);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let result = runner.run(&history, |batches| runtime.block_on(play(&usage, batches)));
    drop(database);
    result.unwrap();
}

async fn play(usage: &Usage, batches: Vec<Vec<Step>>) -> Result<(), TestCaseError> {
    // A tenant of its own is as good as a database of its own.
    let template = event(OrganizationId::new_v7());
    let ids: Vec<ReservationId> = (0..5).map(|_| ReservationId::new_v7()).collect();
    let users: Vec<Option<UserId>> = vec![None, Some(UserId::new_v7()), Some(UserId::new_v7())];
    let mut model = Model::default();
    for batch in batches {
        let events: Vec<Event> = batch
            .iter()
            .map(|step| Event {
                id: ids[step.id],
                source: ["ai-broker", "studio"][step.source].to_owned(),
                output_tokens: step.amount,
                cost_nano_usd: 7 * step.amount,
                user: users[step.user],
                event_time: template.event_time - TimeDelta::hours(step.hours_ago),
                estimated: step.estimated,
                ..template.clone()
            })
            .collect();
        let expected: Vec<Disposition> = events.iter().map(|event| model.record(event)).collect();
        prop_assert_eq!(usage.record(&events).await, expected);
    }
    let client = usage.pool.get().await.unwrap();
    let sums = "count(*)::bigint, coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(cost_nano_usd), 0)::bigint";
    let row = client
        .query_one(
            &format!("select {sums} from usage.events where organization_id = $1"),
            &[template.organization.as_uuid()],
        )
        .await
        .unwrap();
    let expected = (
        i64::try_from(model.0.len()).unwrap(),
        model.0.values().map(|event| event.output_tokens).sum::<i64>(),
        model.0.values().map(|event| event.cost_nano_usd).sum::<i64>(),
    );
    prop_assert_eq!((row.get(0), row.get(1), row.get(2)), expected);
    usage.assert_balanced().await;
    Ok(())
}
