//! The scripts of accounts do what the plain arithmetic does, message by message.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use weir_quota::domain::Period;
use weir_quota::domain::shared::{
    Account, AccountKey, Answer, Ended, Ending, LeaseAccount, LeaseRound, Measure, Reply, Round, Terms, Use,
};
use weir_quota::storage::Store;
use weir_quota::storage::accounts::Accounts;
use weir_quota::storage::store::InstallAccount;
use weir_redis::Redis;
use weir_types::ReservationId;

/// One step of a history; ids and processes are places in short lists, so that they meet.
#[derive(Debug, Clone)]
struct Step {
    holder: u8,
    keep: i64,
    ask: i64,
    ahead: i64,
    leaving: bool,
    seq: i64,
    cap: i64,
    uses: Vec<(usize, i64, bool, u8)>,
    ended: Vec<End>,
    /// In a test of generations: another one begins.
    loses: bool,
    sweeps: bool,
    pause: bool,
}

/// Which, reserved, used, how, so many generations ago, whether lately, whose.
type End = (usize, i64, i64, u8, Option<u64>, bool, u8);

fn step() -> impl Strategy<Value = Step> {
    let uses = prop::collection::vec((0_usize..12, 0_i64..6, prop::bool::weighted(0.8), 0_u8..3), 0..4);
    // Written so many generations ago, or nobody knows when.
    let written = prop::option::of(prop_oneof![3 => Just(0_u64), 1 => Just(1)]);
    let ended = (0_usize..12, 0_i64..6, 0_i64..9, 0_u8..3, written, prop::bool::weighted(0.9), 0_u8..3);
    let ended = prop::collection::vec(ended, 0..3);
    let message = (0_u8..3, 0_i64..12, 0_i64..10, 0_i64..20, prop::bool::weighted(0.1), -1_i64..2, 20_i64..60);
    let harm = (prop::bool::weighted(0.03), prop::bool::weighted(0.1), prop::bool::weighted(0.06));
    (message, uses, ended, harm).prop_map(|(message, uses, ended, (loses, sweeps, pause))| {
        let (holder, keep, ask, ahead, leaving, seq, cap) = message;
        Step { holder, keep, ask, ahead, leaving, seq, cap, uses, ended, loses, sweeps, pause }
    })
}

const WINDOW: i64 = 400;
const GRAIN: i64 = 10;

struct Sides {
    store: Store,
    key: AccountKey,
    ids: Vec<ReservationId>,
    model: Accounts,
    seqs: [i64; 3],
    generation: u64,
    durable: bool,
    rolling: bool,
    period: Period,
    versions: i64,
}

async fn store_time(redis: &Redis) -> i64 {
    let (seconds, micros): (i64, i64) = redis.command(&weir_redis::redis::cmd("TIME")).await.unwrap();
    seconds * 1_000 + micros / 1_000
}

impl Sides {
    fn round(&mut self, step: &Step, now: i64) -> Round {
        let holder = |place: u8| [place; 16];
        let seq = &mut self.seqs[usize::from(step.holder)];
        *seq += 1;
        let place = if self.rolling { now - 20 } else { self.period.start };
        let uses = step.uses.iter().map(|(id, amount, given_out, whose)| Use {
            id: self.ids[*id],
            amount: *amount,
            place: if self.rolling { (place.div_euclid(GRAIN) + 1) * GRAIN } else { place },
            age: given_out.then_some(i64::try_from(*id).unwrap()),
            holder: holder(*whose),
            // Surely after the account's beginning, or surely before.
            reserved_at: if id % 2 == 0 { now } else { now - 1_000_000 },
        });
        let uses = uses.collect();
        let ended = step.ended.iter().map(|(id, reserved, actual, ending, written, recent, whose)| {
            self.versions += 1;
            Ended {
                id: self.ids[*id],
                holder: holder(*whose),
                reserved: *reserved,
                actual: if *ending == 0 { 0 } else { *actual },
                before: reserved / 2,
                ending: [Ending::Released, Ending::Estimated, Ending::Final][usize::from(*ending)],
                written_in: written.map(|ago| self.generation - ago),
                place: if self.rolling { (place.div_euclid(GRAIN) + 1) * GRAIN } else { place },
                reserved_at: if *recent { now } else { now - 1_000_000 },
                total: if self.durable && written.is_some() { (self.versions % 37, self.versions) } else { (0, 0) },
            }
        });
        let ended = ended.collect();
        let measure =
            if self.rolling { Measure::Rolling { length: WINDOW, grain: GRAIN } } else { Measure::Period(self.period) };
        Round {
            terms: Terms { cap: step.cap, measure, durable: self.durable, lease: 60, remember: 60_000 },
            holder: holder(step.holder),
            // Now and then one that was overtaken.
            seq: if step.seq < 0 { *seq - 1 } else { *seq },
            keep: step.keep,
            ask: step.ask,
            least: step.ask / 3,
            ahead: step.ahead,
            leaving: step.leaving,
            uses,
            ended,
        }
    }
}

/// The store's clock is its own: the model takes the moment from the answer. Where there is none, any moment does.
fn moment(reply: &Reply, before: i64) -> i64 {
    match reply {
        Reply::Done(Answer { now, .. }) | Reply::Outside(now) => *now,
        Reply::Cold | Reply::Later(_) | Reply::Overtaken => before,
    }
}

async fn both_agree(rolling: bool, durable: bool) {
    let server = weir_testing::redis().await.unwrap();
    let mut config = crate::house::settings().redis;
    config.url = server.url().into();
    let redis = Redis::connect(&config).await.unwrap();
    let store = Store::Redis(weir_quota::storage::redis::Store::new(redis.clone()));
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRunner::deterministic().new_rng());
    for history in 0..25_u64 {
        let steps = prop::collection::vec(step(), 40).new_tree(&mut runner).unwrap().current();
        let start = store_time(&redis).await - 1_000;
        let key = AccountKey { limit: 7, value: format!("{rolling}-{durable}-{history}").into() };
        let ids = (0..12).map(|_| ReservationId::new_v7()).collect();
        let period = Period { start, end: start + 3_600_000 };
        let mut sides = Sides {
            store: store.clone(),
            key,
            ids,
            model: Accounts::default(),
            seqs: [0; 3],
            generation: 1_000 * (history + 1),
            durable,
            rolling,
            period,
            versions: 0,
        };
        let mut done = 0;
        for (number, step) in steps.iter().enumerate() {
            if step.pause {
                tokio::time::sleep(Duration::from_millis(70)).await;
            }
            if step.loses {
                sides.generation += 1;
            }
            let epoch = sides.store.adopt(sides.generation).await.unwrap();
            let now = store_time(&redis).await;
            let round = sides.round(step, now);
            let theirs = sides.store.shared_round(&epoch, &sides.key, &round).await.unwrap();
            let at = moment(&theirs, now);
            // A millisecond's difference where the script did not say when it was changes nothing that it says.
            let ours = sides.model.round(sides.generation, at, &sides.key, &round);
            assert_eq!(ours, theirs, "history {history}, step {number}: {step:?}");
            match theirs {
                Reply::Cold => {
                    let fence = sides.store.shared_fence(&sides.key).await.unwrap();
                    let start = if rolling { 0 } else { sides.period.start };
                    let buckets = if rolling { vec![(now + 5, 3), (now + 15, 2)] } else { Vec::new() };
                    let total = if rolling { (0, 0) } else { (11, 1) };
                    let install = InstallAccount { period: start, total, buckets };
                    assert!(sides.store.shared_install(&epoch, &sides.key, &fence, &install).await.unwrap());
                    // What the script calls the beginning is not told; reservations from before it are told by far.
                    let at = store_time(&redis).await;
                    sides.model.install(sides.generation, at, &sides.key, &install);
                }
                Reply::Done(_) => done += 1,
                _ => {}
            }
            if step.sweeps {
                sides.store.shared_sweep(&epoch, &sides.key, "0", Duration::from_secs(60)).await.unwrap();
                sides.model.sweep(store_time(&redis).await, &sides.key, Duration::from_secs(60));
            }
            if step.seq > 0 {
                let (holders, now) = sides.store.shared_holders(&sides.key).await.unwrap();
                for (holder, until) in holders {
                    let theirs = sides.store.shared_forget(&epoch, &sides.key, &holder).await.unwrap();
                    // It may have ended since the question.
                    let at = if theirs { now.max(until) } else { now };
                    assert!(at <= store_time(&redis).await, "forgotten before its end");
                    assert_eq!(sides.model.forget(at, &sides.key, &holder), theirs);
                }
            }
            let theirs = sides.store.shared_contents(&sides.key).await.unwrap();
            let mut ours = sides.model.contents(now, &sides.key);
            ours.held.sort_unstable();
            assert_eq!(ours, theirs, "history {history}, step {number}: {step:?}");
        }
        assert!(done > 10, "most messages are taken: {done}");
    }
}

#[tokio::test]
async fn a_rolling_rate_counts_as_the_arithmetic_says() {
    both_agree(true, false).await;
}

#[tokio::test]
async fn a_rolling_budget_counts_as_the_arithmetic_says() {
    both_agree(true, true).await;
}

#[tokio::test]
async fn the_sum_of_a_period_counts_as_the_arithmetic_says() {
    both_agree(false, false).await;
}

#[tokio::test]
async fn the_total_of_a_period_counts_as_the_arithmetic_says() {
    both_agree(false, true).await;
}

#[tokio::test]
async fn seats_are_given_as_the_arithmetic_says() {
    let server = weir_testing::redis().await.unwrap();
    let mut config = crate::house::settings().redis;
    config.url = server.url().into();
    let redis = Redis::connect(&config).await.unwrap();
    let store = Store::Redis(weir_quota::storage::redis::Store::new(redis.clone()));
    let epoch = store.adopt(1).await.unwrap();
    let ids = || prop::collection::vec(0_usize..12, 0..4);
    // Leases that outlive the test, so that the clocks of the two do not matter.
    let leased = || prop::collection::vec((0_usize..12, 100_000_i64..200_000), 0..4);
    let step = (2_i64..7, ids(), ids(), ids(), leased(), leased());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRunner::deterministic().new_rng());
    for history in 0..30 {
        let steps = prop::collection::vec(step.clone(), 30).new_tree(&mut runner).unwrap().current();
        let known: Vec<ReservationId> = (0..12).map(|_| ReservationId::new_v7()).collect();
        let key = AccountKey { limit: 9, value: history.to_string().into() };
        let mut model = LeaseAccount::default();
        for (number, (cap, ended, given_back, decided, extended, wanted)) in steps.into_iter().enumerate() {
            let plain = |list: Vec<usize>| list.into_iter().map(|id| known[id]).collect::<Vec<_>>();
            let leased = |list: Vec<(usize, i64)>| list.into_iter().map(|(id, n)| (known[id], n)).collect::<Vec<_>>();
            let round = LeaseRound {
                cap,
                remember: 100_000,
                ended: if number % 3 == 0 { plain(ended) } else { Vec::new() },
                given_back: plain(given_back),
                decided: plain(decided),
                extended: leased(extended),
                wanted: leased(wanted),
            };
            let theirs = store.shared_leases(&epoch, &key, &round).await.unwrap();
            let ours = model.round(1, store_time(&redis).await, &round);
            assert_eq!(ours, theirs, "history {history}, step {number}: {round:?}");
        }
    }
}

#[test]
fn what_has_left_the_window_returns_nothing_when_the_clock_goes_back() {
    let (first, second) = (ReservationId::new_v7(), ReservationId::new_v7());
    let (mut account, mut seq) = (Account::default(), 0);
    let mut used = |now: i64, uses: Vec<Use>, ended: Vec<Ended>| {
        let measure = Measure::Rolling { length: WINDOW, grain: GRAIN };
        let terms = Terms { cap: 100, measure, durable: false, lease: 60, remember: 60_000 };
        seq += 1;
        let round =
            Round { terms, holder: [1; 16], seq, keep: 0, ask: 0, least: 0, ahead: 0, leaving: false, uses, ended };
        let Reply::Done(answer) = account.round(1, now, &round) else { panic!("{now}") };
        answer.used
    };
    let taken = |id, amount, now| Use { id, amount, place: 0, age: Some(0), holder: [1; 16], reserved_at: now };
    let end = |id, ending, actual, before| Ended {
        id,
        holder: [1; 16],
        reserved: 6,
        actual,
        before,
        ending,
        written_in: None,
        place: 1_010,
        reserved_at: 1_000,
        total: (0, 0),
    };
    assert_eq!(used(1_000, vec![taken(first, 6, 1_000)], Vec::new()), 6);
    assert_eq!(used(1_001, Vec::new(), vec![end(first, Ending::Estimated, 6, 0)]), 6);
    assert_eq!(used(1_005, vec![taken(second, 6, 1_005)], Vec::new()), 12);
    assert_eq!(used(1_200, vec![taken(ReservationId::new_v7(), 5, 1_200)], Vec::new()), 17);
    assert_eq!(used(1_420, Vec::new(), Vec::new()), 5, "the others have left");
    let replaced = vec![end(first, Ending::Final, 0, 6), end(second, Ending::Released, 0, 0)];
    assert_eq!(used(1_300, Vec::new(), replaced), 5);
}

/// The total of a period that is in Postgres has what another process has settled before that process tells who ended.
#[test]
fn what_is_on_the_books_before_its_end_is_told_is_certain_once() {
    let period = Period { start: 0, end: 100_000 };
    let terms = Terms { cap: 100, measure: Measure::Period(period), durable: true, lease: 60, remember: 60_000 };
    let (mut account, mut seq) = (Account::default(), 0);
    account.install(1, 0, 0, (20, 1), Vec::new());
    let mut tell = |holder: u8, uses: Vec<Use>, ended: Vec<Ended>| {
        seq += 1;
        let (holder, leaving) = ([holder; 16], false);
        let round = Round { terms, holder, seq, keep: 0, ask: 0, least: 0, ahead: 0, leaving, uses, ended };
        let Reply::Done(answer) = account.round(1, 1_000, &round) else { panic!("{seq}") };
        (answer.used, answer.certain, answer.held)
    };
    let [first, second, third] = [(); 3].map(|()| ReservationId::new_v7());
    let taken = |id, amount| Use { id, amount, place: 0, age: Some(0), holder: [1; 16], reserved_at: 900 };
    let end = |id, reserved, actual, total| Ended {
        id,
        holder: [1; 16],
        reserved,
        actual,
        before: 0,
        ending: Ending::Final,
        written_in: Some(1),
        place: 0,
        reserved_at: 900,
        total,
    };
    assert_eq!(tell(1, vec![taken(first, 25)], Vec::new()), (45, 45, 25));
    assert_eq!(tell(2, vec![taken(second, 10)], Vec::new()), (55, 55, 35));
    // The other one's settlement came to the books after the first one's, and is told before it.
    assert_eq!(tell(2, Vec::new(), vec![end(second, 10, 9, (54, 3))]), (79, 54, 25));
    assert_eq!(tell(1, Vec::new(), vec![end(first, 25, 25, (45, 2))]), (54, 54, 0));
    // One that was not told at all when another process told of its end: what is said of it later is known.
    assert_eq!(tell(2, Vec::new(), vec![end(third, 6, 6, (60, 4))]), (60, 60, 0));
    assert_eq!(tell(1, vec![taken(third, 6)], Vec::new()), (60, 60, 0));
}
