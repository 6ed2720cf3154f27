use weir_types::OrganizationId;
use weir_usage::domain::{Disposition, Entry, Event, PayloadHash, Recorded, Sums, plan};

use crate::fixture::{estimate_of, event};

fn decide(recorded: &[Event], incoming: &[Event]) -> (Vec<Disposition>, usize, Sums) {
    let recorded: Vec<Recorded> = recorded
        .iter()
        .map(|event| Recorded { hash: PayloadHash::of(event), event: event.clone(), revision: 1 })
        .collect();
    let entries: Vec<Entry> = incoming.iter().cloned().map(Entry::new).collect();
    let plan = plan(&entries.iter().collect::<Vec<_>>(), &recorded);
    let mut moved = Sums::default();
    plan.moves().unwrap().iter().for_each(|(_, sums)| moved.add(sums).unwrap());
    let changes = plan.changes();
    (plan.dispositions, changes, moved)
}

#[test]
fn an_actual_supersedes_an_estimate_and_sums_move_by_the_difference() {
    let actual = event(OrganizationId::new_v7());
    let (dispositions, changes, moved) = decide(&[estimate_of(&actual)], std::slice::from_ref(&actual));
    assert_eq!((dispositions, changes), (vec![Disposition::Superseded], 1));
    assert_eq!(moved, Sums { input_tokens: -4000, output_tokens: -3950, estimated_requests: -1, ..Sums::default() });
}

#[test]
fn an_actual_with_the_estimated_amounts_still_makes_them_certain() {
    let actual = event(OrganizationId::new_v7());
    let estimate = Event { estimated: true, ..actual.clone() };
    assert_eq!(PayloadHash::of(&actual), PayloadHash::of(&estimate));
    let (dispositions, _, moved) = decide(&[estimate], std::slice::from_ref(&actual));
    assert_eq!(dispositions, [Disposition::Superseded]);
    assert_eq!(moved, Sums { estimated_requests: -1, ..Sums::default() });
}

#[test]
fn what_is_known_moves_nothing() {
    let actual = event(OrganizationId::new_v7());
    let estimate = estimate_of(&actual);
    let other = Event { output_tokens: 51, ..actual.clone() };
    let known = std::slice::from_ref(&actual);
    for (incoming, expected) in [
        (actual.clone(), Disposition::Duplicate),
        (estimate.clone(), Disposition::DuplicateEstimate(Box::new(actual.clone()))),
        (other, Disposition::IdReused),
    ] {
        assert_eq!(decide(known, &[incoming]), (vec![expected], 0, Sums::default()));
    }
    let another_estimate = Event { input_tokens: 1, cached_input_tokens: 0, ..estimate.clone() };
    assert_eq!(
        decide(std::slice::from_ref(&estimate), &[estimate.clone(), another_estimate]).0,
        [Disposition::Duplicate, Disposition::DuplicateEstimate(Box::new(estimate))]
    );
}

#[test]
fn a_batch_is_decided_in_its_order() {
    let actual = event(OrganizationId::new_v7());
    let estimate = estimate_of(&actual);
    let (dispositions, changes, moved) =
        decide(&[], &[estimate.clone(), estimate.clone(), actual.clone(), actual.clone(), estimate]);
    assert_eq!(
        dispositions,
        [
            Disposition::Recorded,
            Disposition::Duplicate,
            Disposition::Superseded,
            Disposition::Duplicate,
            Disposition::DuplicateEstimate(Box::new(actual.clone()))
        ]
    );
    assert_eq!((changes, moved), (1, Sums::of(&actual)));
}

#[test]
fn the_same_id_from_another_source_or_organisation_is_another_event() {
    let one = event(OrganizationId::new_v7());
    let two = Event { source: "studio".to_owned(), ..one.clone() };
    let three = Event { organization: OrganizationId::new_v7(), user: None, api_key: None, ..one.clone() };
    assert_eq!(decide(&[one], &[two, three]).0, [Disposition::Recorded, Disposition::Recorded]);
}

#[test]
fn every_field_but_the_estimated_flag_is_in_the_hash() {
    let event = event(OrganizationId::new_v7());
    let same = PayloadHash::of(&event);
    let changes: [fn(&mut Event); 19] = [
        |e| e.id = weir_types::ReservationId::new_v7(),
        |e| e.source.push('x'),
        |e| e.organization = OrganizationId::new_v7(),
        |e| e.user = None,
        |e| e.api_key = None,
        |e| e.provider.push('x'),
        |e| e.model.push('x'),
        |e| e.operation.push('x'),
        |e| e.event_time += chrono::TimeDelta::microseconds(1),
        |e| e.input_tokens += 1,
        |e| e.cached_input_tokens += 1,
        |e| e.output_tokens += 1,
        |e| e.quantities.clear(),
        |e| e.cost_nano_usd += 1,
        |e| e.price_version.push('x'),
        |e| e.outcome = weir_usage::domain::Outcome::Broken,
        |e| e.latency_ms += 1,
        |e| e.requests += 1,
        |e| (e.first_byte_ms += 1, e.request_id.push('x')).0,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut other = event.clone();
        change(&mut other);
        assert_ne!(PayloadHash::of(&other), same, "change {at}");
    }
    // A character that moves from one field to the next is a change too.
    let moved = Event { provider: "opena".to_owned(), model: "igpt-4.1-mini".to_owned(), ..event };
    assert_ne!(PayloadHash::of(&moved), same);
}
