//! The rules of two-phase transfers in the sense of TigerBeetle's documentation (pending, post, void, expire), and ours.
//!
//! They move funds between accounts and may forget what nobody resolved; we limit calls that were really made and must be paid
//! for. Where the rules differ the row says why.

use bytes::Bytes;
use weir_proto::billing::v1::Limit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;

use super::bench::Bench;
use crate::billing::{lifetime, limit};
use crate::house::{amounts, balance, commit, open, release, reserve};

#[derive(Debug, Clone, Copy)]
enum Do {
    /// A pending transfer: reserve so much. The same reservation each time.
    Pend(i64),
    /// A post: commit so much.
    Post(i64),
    /// Ours alone: commit so much, but it is not known.
    Estimate(i64),
    /// A void: release.
    Void,
    /// The timeout passes.
    Expire,
    /// Somebody takes over what has expired, and answers how many there were.
    TakeOver,
}

#[derive(Debug, Clone, PartialEq)]
enum Says {
    Done,
    /// Nothing new; the books say so much.
    Again(i64),
    /// Charged after its lease.
    Late,
    LateAgain(i64),
    Refused(ErrorReason),
    Took(usize),
    Nothing,
}

/// A rule: TigerBeetle's words for it, what it does there, what differs here; the steps, and what is used and held after them.
struct Rule {
    theirs: &'static str,
    differs: &'static str,
    steps: Vec<(Do, Says)>,
    used: i64,
    held: i64,
}

fn rule(theirs: &'static str, differs: &'static str, steps: Vec<(Do, Says)>, used: i64, held: i64) -> Rule {
    Rule { theirs, differs, steps, used, held }
}

const CAP: i64 = 100;
const SAME: &str = "";

fn rules() -> Vec<Rule> {
    use Do::*;
    use ErrorReason::*;
    use Says::*;
    vec![
        rule("pending reserves its amount and leaves what is posted as it is", SAME, vec![(Pend(60), Done)], 60, 60),
        rule("pending beyond the balance: exceeds_credits", SAME, vec![(Pend(101), Refused(BudgetExhausted))], 0, 0),
        rule(
            "the same pending again: exists",
            "answers as the first time",
            vec![(Pend(60), Done), (Pend(60), Done)],
            60,
            60,
        ),
        rule(
            "the same id with another amount: exists_with_different_amount",
            SAME,
            vec![(Pend(60), Done), (Pend(61), Refused(IdReused))],
            60,
            60,
        ),
        rule("post the full amount", SAME, vec![(Pend(60), Done), (Post(60), Done)], 60, 0),
        rule("post a part: the rest is restored", SAME, vec![(Pend(60), Done), (Post(25), Done)], 25, 0),
        rule(
            "post nothing: all is restored",
            "and it has ended",
            vec![(Pend(60), Done), (Post(0), Done), (Void, Refused(AlreadyExists))],
            0,
            0,
        ),
        rule(
            "post more: exceeds_pending_transfer_amount",
            "charged, since the provider was paid; what is above the cap is a debt that everybody sees",
            vec![(Pend(60), Done), (Post(130), Done)],
            130,
            0,
        ),
        rule(
            "post twice: pending_transfer_already_posted",
            "no error: a client that had no answer asks again and hears what the books say",
            vec![(Pend(60), Done), (Post(60), Done), (Post(60), Again(60))],
            60,
            0,
        ),
        rule(
            "post again with another amount: pending_transfer_already_posted",
            "the first stands, and the answer says so",
            vec![(Pend(60), Done), (Post(60), Done), (Post(10), Again(60))],
            60,
            0,
        ),
        rule("void: all is restored", SAME, vec![(Pend(60), Done), (Void, Done)], 0, 0),
        rule(
            "void twice: pending_transfer_already_voided",
            "no error",
            vec![(Pend(60), Done), (Void, Done), (Void, Again(0))],
            0,
            0,
        ),
        rule(
            "post after void: pending_transfer_already_voided",
            SAME,
            vec![(Pend(60), Done), (Void, Done), (Post(60), Refused(ReservationReleased))],
            0,
            0,
        ),
        rule(
            "void after post: pending_transfer_already_posted",
            SAME,
            vec![(Pend(60), Done), (Post(60), Done), (Void, Refused(AlreadyExists))],
            60,
            0,
        ),
        rule(
            "a timeout restores the amount",
            "it stays held until somebody settles it: the call may have been made",
            vec![(Pend(60), Done), (Expire, Nothing)],
            60,
            60,
        ),
        rule(
            "post after the timeout: pending_transfer_expired",
            "charged once, flagged late",
            vec![(Pend(60), Done), (Expire, Nothing), (Post(50), Late), (Post(50), LateAgain(50))],
            50,
            0,
        ),
        rule(
            "void after the timeout: pending_transfer_expired",
            "released",
            vec![(Pend(60), Done), (Expire, Nothing), (Void, Done)],
            0,
            0,
        ),
        rule(
            "a timeout happens once",
            "whoever takes it over settles it, nobody else gets it meanwhile",
            vec![(Pend(60), Done), (Expire, Nothing), (TakeOver, Took(1)), (TakeOver, Took(0)), (Estimate(60), Done)],
            60,
            0,
        ),
        rule(
            "(no such thing) an estimate",
            "replaced by what was really used, once",
            vec![
                (Pend(60), Done),
                (Estimate(60), Done),
                (Estimate(9), Again(60)),
                (Post(20), Done),
                (Post(9), Again(20)),
            ],
            20,
            0,
        ),
        rule(
            "an id is used once: exists",
            "after it has ended it can't be reserved again",
            vec![(Pend(60), Done), (Post(60), Done), (Pend(60), Refused(IdReused))],
            60,
            0,
        ),
        rule(
            "post of what was never pending: pending_transfer_not_found",
            SAME,
            vec![(Post(60), Refused(ReservationNotFound))],
            0,
            0,
        ),
        rule(
            "void of what was never pending: pending_transfer_not_found",
            "taken, so that a request to reserve it that comes late is refused",
            vec![(Void, Done), (Pend(60), Refused(IdReused))],
            0,
            0,
        ),
    ]
}

fn budget() -> Vec<Limit> {
    vec![limit("budget", "organization", "nano_usd", CAP, lifetime())]
}

#[tokio::test]
async fn the_rules_of_two_phase_transfers_hold_or_differ_as_written() {
    let bench = Bench::new().await;
    let mut now = 1_790_000_000_000;
    for Rule { theirs, differs, steps, used, held } in rules() {
        let tenant = bench.house.tenant(budget());
        let request = reserve(tenant, &[]);
        let mut handle = Bytes::new();
        bench.set_clock(now, [0, 0]).await;
        for (step, says) in steps {
            let mut client = bench.client(0).await;
            let known = ReserveResponse { handle: handle.clone(), ..Default::default() };
            let said = match step {
                Do::Pend(amount) => {
                    let request = ReserveRequest { amounts: amounts(&[("nano_usd", amount)]), ..request.clone() };
                    match open(client.reserve(request).await) {
                        Ok(answer) => {
                            handle = answer.handle;
                            Says::Done
                        }
                        Err(failure) => Says::Refused(failure.reason()),
                    }
                }
                Do::Post(amount) | Do::Estimate(amount) => {
                    let mut post = commit(&request, &known, &[("nano_usd", amount)]);
                    post.estimated = matches!(step, Do::Estimate(_));
                    match open(client.commit(post).await) {
                        Ok(answer) => {
                            let charged = answer.amounts.first().map_or(0, |amount| amount.value);
                            match (answer.duplicate, answer.late) {
                                (false, false) => Says::Done,
                                (false, true) => Says::Late,
                                (true, false) => Says::Again(charged),
                                (true, true) => Says::LateAgain(charged),
                            }
                        }
                        Err(failure) => Says::Refused(failure.reason()),
                    }
                }
                Do::Void => match open(client.release(release(&request, &known)).await) {
                    Ok(answer) if answer.duplicate => Says::Again(0),
                    Ok(_) => Says::Done,
                    Err(failure) => Says::Refused(failure.reason()),
                },
                Do::Expire => {
                    now += 31_000;
                    bench.set_clock(now, [0, 0]).await;
                    Says::Nothing
                }
                Do::TakeOver => {
                    let lease = Some(prost_types::Duration { seconds: 30, nanos: 0 });
                    let taken = client.take_over(TakeOverRequest { max: 1_000, lease }).await.unwrap().into_inner();
                    let ours = taken.reservations.iter().filter(|one| one.reservation_id == request.reservation_id);
                    Says::Took(ours.count())
                }
            };
            assert_eq!(said, says, "{theirs}: {differs}: {step:?}");
        }
        let state = balance(&mut bench.client(1).await, tenant, "budget").await;
        assert_eq!((state.used, state.held), (used, held), "{theirs}: {differs}");
    }
}
