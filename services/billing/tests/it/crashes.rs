//! Whatever is killed and whenever: the ledger is the sum of what the events cost as they stand.

use std::time::Duration;

use proptest::prelude::*;
use weir_proto::usage::v1::UsageEvent;
use weir_types::OrganizationId;

use crate::house::{House, name, settings};
use crate::rating::scan;
use crate::usage::event;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Events become durable.
    Record { organization: usize, events: usize, priced: bool },
    /// An earlier event is superseded.
    Supersede { which: usize, input: i64, priced: bool },
    /// Everything is killed after so many milliseconds, and started again.
    Kill { after: u64 },
    /// Another replica starts.
    Join,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3usize, 1..40usize, prop::bool::weighted(0.9))
            .prop_map(|(organization, events, priced)| Step::Record { organization, events, priced }),
        3 => (any::<prop::sample::Index>(), 0..1_000i64, prop::bool::weighted(0.9))
            .prop_map(|(which, input, priced)| Step::Supersede { which: which.index(1 << 16), input, priced }),
        2 => (0..60u64).prop_map(|after| Step::Kill { after }),
        1 => Just(Step::Join),
    ];
    prop::collection::vec(step, 5..25)
}

fn model(priced: bool) -> String {
    if priced { "gpt-4o-mini" } else { "unheard-of" }.to_owned()
}

/// Runs a history and holds the books against the events.
async fn run(steps: Vec<Step>, chunk: usize) {
    let house = House::new().await;
    let small = || {
        let mut settings = settings();
        settings.billing.rating.max_chunk = chunk;
        settings.billing.rating.linger = Duration::from_millis(1);
        settings.billing.rating.lease = Duration::from_millis(150);
        settings
    };
    let organizations: Vec<_> = (0..3).map(|_| OrganizationId::new_v7()).collect();
    let mut replicas = vec![house.replica(small()).await.unwrap()];
    let mut recorded: Vec<UsageEvent> = Vec::new();
    // What an event costs until it gets a price again: a superseding event without one leaves the earlier price in force,
    // if that was rated, so histories keep an event priced once it was.
    let mut settled: Vec<bool> = Vec::new();
    for step in steps {
        match step {
            Step::Record { organization, events, priced } => {
                for n in 0..events {
                    let event = UsageEvent {
                        model: model(priced),
                        ..event(organizations[organization], i64::try_from(n).unwrap_or(0) * 7, 3)
                    };
                    recorded.push(event.clone());
                    settled.push(priced);
                    house.usage.record(event);
                }
            }
            Step::Supersede { which, input, priced } if !recorded.is_empty() => {
                let which = which % recorded.len();
                let priced = priced || settled[which];
                settled[which] = priced;
                let before = &recorded[which];
                let after = UsageEvent {
                    event_id: before.event_id.clone(),
                    organization: before.organization.clone(),
                    model: model(priced),
                    ..event(organizations[0], input, 1)
                };
                recorded[which] = after.clone();
                house.usage.record(after);
            }
            Step::Supersede { .. } => {}
            Step::Kill { after } => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                replicas.drain(..).for_each(crate::house::Replica::kill);
                replicas.push(house.replica(small()).await.unwrap());
            }
            Step::Join if replicas.len() < 3 => replicas.push(house.replica(small()).await.unwrap()),
            Step::Join => {}
        }
    }
    let status = replicas[0].rated().await;
    let events = house.usage.events();
    let cost = |event: &UsageEvent| if event.model == "unheard-of" { 0 } else { event.cost_nano_usd };
    let expected: i64 = events.iter().map(|(event, _)| cost(event)).sum();
    assert_eq!(status.ledger_sum_nano_usd, 0);
    assert_eq!((status.rated_nano_usd, status.receivable_nano_usd), (expected, expected));
    assert_eq!(status.price_mismatches, 0);
    let unpriced = events.iter().filter(|(event, _)| event.model == "unheard-of").count();
    assert_eq!(status.unrated_events, i64::try_from(unpriced).unwrap());
    for organization in organizations {
        let mut rated: Vec<_> = scan(&replicas[0], &name(organization), "")
            .await
            .into_iter()
            .map(|event| (event.event_id, event.amount_nano_usd, event.revision))
            .collect();
        let mut stand: Vec<_> = events
            .iter()
            .filter(|(event, _)| event.organization == name(organization) && event.model != "unheard-of")
            .map(|(event, revision)| (event.event_id.clone(), event.cost_nano_usd, *revision))
            .collect();
        rated.sort();
        stand.sort();
        assert_eq!(rated, stand);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_is_the_sum_of_the_latest_amounts_whenever_billing_is_killed(steps in steps(), chunk in 1..30usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps, chunk));
    }
}
