//! What a process still has after an account has answered.

use super::rounds::Flight;
use super::*;
use crate::domain::shared::Terms;

const LEASE: Duration = Duration::from_secs(60);

fn message(slice: &mut Slice) -> Flight {
    let terms = Terms { cap: 100, measure: Measure::Period(FOREVER), durable: false, lease: 60_000, remember: 60_000 };
    slice.compose((1, FOREVER), terms, [1; 16], Instant::now())
}

/// A process that has 10, of which requests that are not decided yet have taken 4.
fn taken() -> (Slice, Origin) {
    let mut slice = Slice::new(0);
    slice.wait(6);
    let flight = message(&mut slice);
    slice.land(flight, Answer { granted: 10, ..Answer::default() }, LEASE);
    slice.take(4);
    let origin = slice.origin();
    (slice, origin)
}

#[test]
fn what_the_account_has_let_go_of_is_not_given_out_again() {
    let (mut slice, origin) = taken();
    let flight = message(&mut slice);
    assert_eq!(flight.round.keep, 10);
    slice.land(flight, Answer { kept: 0, ..Answer::default() }, LEASE);
    assert_eq!(slice.kept(), (0, 0));
    // Its request was not carried out: there is nothing that it could come back to.
    slice.give_back(4, origin);
    assert_eq!(slice.kept(), (0, 0));
    assert!(!slice.would_take(1, 1, Instant::now()));
}

#[test]
fn less_than_what_is_unspent_is_missing_from_that() {
    let (mut slice, origin) = taken();
    let flight = message(&mut slice);
    slice.land(flight, Answer { kept: 5, ..Answer::default() }, LEASE);
    assert_eq!(slice.kept(), (1, 4));
    slice.give_back(4, origin);
    assert_eq!(slice.kept(), (5, 0));
}

#[test]
fn what_goes_back_after_a_later_grant_is_not_a_part_of_it() {
    let (mut slice, origin) = taken();
    let flight = message(&mut slice);
    slice.land(flight, Answer { kept: 0, granted: 10, ..Answer::default() }, LEASE);
    slice.give_back(4, origin);
    assert_eq!(slice.kept(), (10, 0));
    slice.take(3);
    slice.confirm(ReservationId::new_v7(), 4, origin, [1; 16], 0);
    assert_eq!(slice.kept(), (7, 3));
}
