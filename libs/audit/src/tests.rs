//! The comparison of records, without services.

use std::collections::BTreeSet;
use std::convert::Infallible;

use futures::executor::block_on;
use futures::stream;
use proptest::prelude::*;
use prost_types::Timestamp;
use uuid::{Timestamp as Timestamp7, Uuid};

use crate::books::Books;
use crate::check::Check;
use crate::merge::merge;
use crate::record::{Amounts, Event, Rated, Settlement};

const AMOUNTS: Amounts = Amounts { requests: 1, input_tokens: 10, output_tokens: 5, cost_nano_usd: 700 };

fn settlement(id: u128) -> Settlement {
    Settlement {
        id: Uuid::from_u128(id),
        organization: "organizations/a".into(),
        released: false,
        estimated: false,
        amounts: AMOUNTS,
    }
}

fn event(id: u128) -> Event {
    Event {
        id: Uuid::from_u128(id),
        organization: "organizations/a".into(),
        from_broker: true,
        estimated: false,
        cached_input_tokens: 2,
        amounts: AMOUNTS,
        time: Timestamp { seconds: 100, nanos: 0 },
    }
}

fn rated(id: u128) -> Rated {
    Rated {
        id: Uuid::from_u128(id),
        organization: "organizations/a".into(),
        estimated: false,
        cached_input_tokens: 2,
        amounts: AMOUNTS,
    }
}

fn compare(settlements: Vec<Settlement>, events: Vec<Event>, rated: Vec<Rated>) -> Books {
    compare_into(Books::default(), settlements, events, rated)
}

fn compare_into(mut books: Books, settlements: Vec<Settlement>, events: Vec<Event>, rated: Vec<Rated>) -> Books {
    let result = block_on(merge(
        stream::iter(settlements.into_iter().map(Ok::<_, Infallible>)),
        stream::iter(events.into_iter().map(Ok)),
        stream::iter(rated.into_iter().map(Ok)),
        &mut books,
    ));
    let Ok(()) = result;
    books
}

fn checks(books: &Books) -> Vec<(Check, u128)> {
    let id = |subject: &str| subject.parse::<Uuid>().expect("an id").as_u128();
    books.findings.iter().map(|finding| (finding.check, id(&finding.subject))).collect()
}

#[test]
fn equal_records_agree_and_add_up() {
    let books = compare((1..=3).map(settlement).collect(), (1..=3).map(event).collect(), (1..=3).map(rated).collect());
    assert_eq!(checks(&books), []);
    assert_eq!((books.quota, books.usage), (books.usage, books.billing));
    assert_eq!((books.usage.events, books.usage.input_tokens, books.usage.cost_nano_usd), (3, 30, 2_100));
}

#[test]
fn every_amount_that_differs_is_found() {
    let mut other = settlement(1);
    other.amounts.cost_nano_usd += 1;
    let books = compare(vec![other], vec![event(1)], vec![rated(1)]);
    assert_eq!(checks(&books), [(Check::CommittedAmounts, 1)]);

    let mut other = rated(1);
    other.cached_input_tokens = 0;
    let books = compare(vec![settlement(1)], vec![event(1)], vec![other]);
    assert_eq!(checks(&books), [(Check::RatedAmounts, 1)]);

    let mut other = event(1);
    other.estimated = true;
    let books = compare(vec![settlement(1)], vec![other], vec![rated(1)]);
    assert_eq!(checks(&books), [(Check::CommittedAmounts, 1), (Check::RatedAmounts, 1)]);
}

#[test]
fn a_released_reservation_has_no_event() {
    let released = |id| Settlement { released: true, amounts: Amounts::default(), ..settlement(id) };
    let books = compare(vec![released(1), released(2)], vec![event(2)], vec![rated(2)]);
    assert_eq!(checks(&books), [(Check::EventOfReleased, 2)]);
    assert_eq!((books.quota.events, books.quota.released), (0, 2));
}

#[test]
fn an_event_that_a_product_recorded_itself_needs_no_reservation() {
    let own = Event { from_broker: false, ..event(1) };
    assert_eq!(checks(&compare(vec![], vec![own], vec![rated(1)])), []);
}

#[test]
fn requests_that_are_counted_together_count_each() {
    let amounts = Amounts { requests: 5, ..Amounts::default() };
    let free = Event { from_broker: false, amounts, ..event(1) };
    let books = compare(vec![], vec![free.clone()], vec![Rated { amounts, ..rated(1) }]);
    assert_eq!((checks(&books), books.usage.events, books.billing.events), (vec![], 5, 5));
    let fewer = Rated { amounts: Amounts { requests: 4, ..amounts }, ..rated(1) };
    assert_eq!(checks(&compare(vec![], vec![free], vec![fewer])), [(Check::RatedAmounts, 1)]);
}

#[test]
fn an_event_that_is_older_than_quotas_memory_needs_no_settlement() {
    let at = |seconds| Uuid::new_v7(Timestamp7::from_unix_time(seconds, 0, 0, 0)).as_u128();
    let since = chrono::DateTime::from_timestamp(1_000, 0);
    let (old, kept, new) = (at(998), at(999), at(1_001));
    let books = Books { settlements_since: since, ..Books::default() };
    let events = [old, kept, new].map(event).to_vec();
    let books = compare_into(books, vec![settlement(kept)], events, [old, kept, new].map(rated).to_vec());
    assert_eq!(checks(&books), [(Check::EventWithoutSettlement, new)]);
    assert_eq!(books.not_compared, 1);

    // All that is there is compared, however old.
    let books = Books { settlements_since: since, ..Books::default() };
    let books = compare_into(books, vec![settlement(old)], vec![], vec![rated(old)]);
    assert_eq!(checks(&books), [(Check::CommitWithoutEvent, old), (Check::RatedWithoutEvent, old)]);
}

#[test]
fn services_must_name_the_same_organisation() {
    let elsewhere = Rated { organization: "organizations/b".into(), ..rated(1) };
    let books = compare(vec![settlement(1)], vec![event(1)], vec![elsewhere]);
    assert_eq!(checks(&books), [(Check::Organization, 1)]);
}

#[test]
fn an_id_listed_twice_or_out_of_order_is_found() {
    let books = compare(vec![settlement(1)], vec![event(1)], vec![rated(1), rated(1)]);
    assert_eq!(checks(&books), [(Check::Order, 1), (Check::RatedWithoutEvent, 1)]);
    let books = compare(vec![], vec![event(2), event(1)], vec![]);
    assert!(checks(&books).contains(&(Check::Order, 1)));
}

proptest! {
    #[test]
    fn whatever_is_missing_anywhere_is_found_exactly_once(
        quota in prop::collection::btree_set(0_u128..40, 0..40),
        usage in prop::collection::btree_set(0_u128..40, 0..40),
        billing in prop::collection::btree_set(0_u128..40, 0..40),
    ) {
        let books = compare(
            quota.iter().copied().map(settlement).collect(),
            usage.iter().copied().map(event).collect(),
            billing.iter().copied().map(rated).collect(),
        );
        let difference = |check, a: &BTreeSet<u128>, b: &BTreeSet<u128>| a.difference(b).map(|id| (check, *id)).collect::<Vec<_>>();
        let mut expected = [
            difference(Check::CommitWithoutEvent, &quota, &usage),
            difference(Check::EventWithoutSettlement, &usage, &quota),
            difference(Check::EventNotRated, &usage, &billing),
            difference(Check::RatedWithoutEvent, &billing, &usage),
        ]
        .concat();
        let mut found = checks(&books);
        expected.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_report_says_what_differs_in_words_and_in_json() {
    let books = compare(vec![settlement(1)], vec![], vec![]);
    let report = crate::Report {
        balanced: false,
        settled: false,
        quota: books.quota,
        usage: books.usage,
        billing: books.billing,
        organizations: 1,
        status: crate::Statuses::default(),
        settlements_since: chrono::DateTime::from_timestamp(1_000, 0),
        not_compared: 7,
        brokers: crate::Brokers { answered: vec!["a:1".into(), "b:2".into()], silent: vec!["c:3".into()] },
        rounds: 1,
        drift: books.findings,
        more_drift: 0,
    };
    let text = report.to_string();
    assert!(text.contains("committed without a usage event: 00000000-0000-0000-0000-000000000001"), "{text}");
    assert!(text.contains("settlements since 1970-01-01T00:16:40Z: 7 older events"), "{text}");
    assert!(text.contains("brokers asked: a:1, b:2\nbroker c:3 did not answer\n"), "{text}");
    assert!(text.contains("do NOT balance: 1 differences"), "{text}");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["drift"][0]["check"], "commit_without_event");
    assert_eq!(json["quota"]["cost_nano_usd"], 700);
}
