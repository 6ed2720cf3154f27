//! What a settlement and a load do to each other, and to what another generation has left.

use std::sync::Arc;

use weir_types::SystemClock;

use super::concurrency::Members;
use super::tenant::{Held, Kept};
use super::*;
use crate::domain::{Entry, LimitId, Value};
use crate::storage::store::{ApplyCounter, ApplyKind, Ending, InstallEntry};

const TOTAL: LimitId = 1;
const DAY: LimitId = 2;
const RATE: LimitId = 3;
const LENGTH: Millis = 86_400_000;
/// A bucket that is inside all windows.
const BUCKET: Millis = Millis::MAX / 2;

fn store() -> (Store, OrganizationId) {
    let store = Store::new(Arc::new(SystemClock), 1 << 20, None);
    store.begin_alone(1);
    (store, OrganizationId::new_v7())
}

/// Of one total with its version, a long window and a rate.
fn loaded((total, version): (i64, i64), day: &[(Millis, i64)]) -> Vec<InstallSubject> {
    let entries = vec![
        (TOTAL, true, InstallEntry::Period(0, total, version)),
        (DAY, true, InstallEntry::Rolling(day.to_vec())),
        (RATE, false, InstallEntry::Rolling(Vec::new())),
    ];
    vec![InstallSubject { value: Value::Organization, layout: 1, sweep_after: -1, entries }]
}

fn counter(limit: LimitId, kind: ApplyKind, place: Millis) -> ApplyCounter {
    ApplyCounter { value: Value::Organization, limit, kind, place, reserved: 5, actual: 3, before: 0 }
}

/// Three of five that are reserved are used.
fn used(total: (i64, i64)) -> Vec<ApplyCounter> {
    vec![
        counter(TOTAL, ApplyKind::Total(total.0, total.1), 0),
        counter(DAY, ApplyKind::Rolling(LENGTH, true), BUCKET),
        counter(RATE, ApplyKind::Rolling(LENGTH, false), BUCKET),
    ]
}

fn settlement(id: ReservationId, counters: Vec<ApplyCounter>) -> Apply {
    Apply { id, ending: Ending::Final, written_in: Some(1), reserved_at: Some(0), counters, concurrent: Vec::new() }
}

/// Holds five in each counter, as far as a generation knows.
fn hold(store: &Store, organization: &OrganizationId, generation: u64, lease: Millis) -> ReservationId {
    let id = ReservationId::new_v7();
    let ends = store.now() + lease;
    let (kept, concurrent) = (Kept::new(0, &[], &[], &[]), Members::new());
    let held = Held { generation, reserved_at: 0, ends, live_until: ends, concurrent, kept };
    store.0.shards.with(organization, |tenant| tenant.hold(id, held));
    id
}

/// Spent and held of each counter.
fn sums(store: &Store, organization: &OrganizationId) -> Vec<(i64, i64)> {
    let contents = store.contents(organization).unwrap();
    contents.subjects[0].1.entries.iter().map(|Entry { spent, held, .. }| (*spent, *held)).collect()
}

#[test]
fn whoever_loads_what_a_settlement_did_not_find_must_read_again() {
    for (counter, breaks) in [
        (counter(TOTAL, ApplyKind::Total(3, 1), 0), true),
        (counter(DAY, ApplyKind::Rolling(LENGTH, true), BUCKET), true),
        (counter(RATE, ApplyKind::Rolling(LENGTH, false), BUCKET), false),
        (counter(TOTAL, ApplyKind::Sum, 0), false),
    ] {
        let (store, organization) = store();
        let fence = store.fence(&organization).unwrap();
        let told = format!("{counter:?}");
        store.settle(1, &organization, &[settlement(ReservationId::new_v7(), vec![counter])]).unwrap();
        assert_eq!(store.install(1, &organization, &fence, &loaded((0, 0), &[])).unwrap(), !breaks, "{told}");
        let fence = store.fence(&organization).unwrap();
        assert!(store.install(1, &organization, &fence, &loaded((3, 1), &[])).unwrap(), "{told}");
        // What is known needs no other load.
        store.settle(1, &organization, &[settlement(ReservationId::new_v7(), used((6, 2)))]).unwrap();
        assert!(store.install(1, &organization, &fence, &loaded((3, 1), &[])).unwrap(), "{told}");
    }
}

#[test]
fn a_total_that_is_newer_stays_whatever_its_generation() {
    let (store, organization) = store();
    let install = |generation, total, day: &[_]| {
        store.0.shards.with(&organization, |tenant| tenant.install(generation, &loaded(total, day)));
    };
    install(1, (3, 1), &[(BUCKET, 3)]);
    // Settled after Postgres was read for the next generation.
    store.settle(1, &organization, &[settlement(ReservationId::new_v7(), used((6, 2)))]).unwrap();
    install(2, (3, 1), &[(BUCKET, 3)]);
    assert_eq!(sums(&store, &organization)[..2], [(6, 0), (3, 0)], "of the newer version; as Postgres has it");
    install(3, (9, 3), &[(BUCKET, 9)]);
    assert_eq!(sums(&store, &organization)[..2], [(9, 0), (9, 0)]);
    // Of the same version Postgres is asked for what it has, unless the generation is the same.
    install(4, (8, 3), &[]);
    assert_eq!(sums(&store, &organization)[0], (8, 0));
    install(4, (7, 3), &[]);
    assert_eq!(sums(&store, &organization)[0], (8, 0));
}

#[test]
fn what_a_former_generation_held_is_not_taken_out_of_what_was_loaded_anew() {
    for (generation, expected) in [(2, [(6, 0), (8, 0), (8, 0)]), (1, [(6, 0), (10, 0), (8, 0)])] {
        let (store, organization) = store();
        let id = hold(&store, &organization, generation, 1_000);
        store.0.shards.with(&organization, |tenant| {
            tenant.install(2, &loaded((3, 1), &[(BUCKET, 10)]));
            // The rate's buckets are the store's own, and have outlived the generation.
            let rate = tenant.subject(&Value::Organization).unwrap().counter(RATE).unwrap();
            if let subject::Counter::Rolling { spent, buckets, .. } = rate {
                *spent = buckets.insert(BUCKET, 10);
            }
        });
        store.settle(1, &organization, &[settlement(id, used((6, 2)))]).unwrap();
        assert_eq!(sums(&store, &organization), expected, "held in generation {generation}");
    }
}

#[test]
fn a_settlement_that_does_not_say_where_ends_only_what_is_not_held() {
    let (store, organization) = store();
    let blind = |id| Apply { reserved_at: None, ending: Ending::Released, ..settlement(id, Vec::new()) };
    let held = hold(&store, &organization, 1, 1_000);
    let unknown = ReservationId::new_v7();
    let settle = |apply| store.settle(1, &organization, &[apply]).unwrap()[0];
    assert_eq!(settle(blind(unknown)), Applied::Done { late: false });
    assert_eq!(settle(blind(held)), Applied::Held);
    let contents = store.contents(&organization).unwrap();
    assert_eq!(contents.held.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [held], "it lives on");
    assert_eq!(store.lease_counts(&[Listing { id: organization, registered: 0, idle: 0 }]).unwrap()[0].all, 1);
    assert_eq!(settle(settlement(held, Vec::new())), Applied::Done { late: false });
    assert_eq!(settle(blind(held)), Applied::Done { late: false }, "settled before");
    let late = hold(&store, &organization, 1, -1);
    assert_eq!(settle(settlement(late, Vec::new())), Applied::Done { late: true });
}
