use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use weir_testing::RedisServer;
use weir_types::OrganizationId;

use super::*;
use crate::domain::queue::{Call, Line};

const RULES: Rules = Rules { capacity: 12, aging: 3_000, turn: 1_000 };
const LEASE: Duration = Duration::from_secs(3_600);

async fn lines(server: &RedisServer, owner: u128) -> Lines {
    let config = weir_redis::Config {
        url: weir_config::Secret::from(server.url().to_owned()),
        cluster: false,
        deadline: Duration::from_secs(5),
        connections: 1,
    };
    Lines::shared(Redis::connect(&config).await.unwrap(), Uuid::from_u128(owner), RULES, LEASE)
}

fn ticket(n: u128) -> Ticket {
    Ticket(Uuid::from_u128(n))
}

fn newcomer(n: u128) -> Newcomer {
    let tenant: OrganizationId = Uuid::from_u128(n % 3).into();
    Newcomer { ticket: ticket(n), tenant, priority: 0, cost: 1, waited: 0, patience: 1_000_000 }
}

#[derive(Debug, Clone)]
enum Step {
    Join { tenant: u128, priority: i32, cost: u32, patience: Millis },
    Serve(usize),
    Block(usize, Millis),
    Admit(usize),
    Leave(usize),
}

/// What both brokers say in one exchange, and how long after the one before.
fn exchanges() -> impl Strategy<Value = Vec<(bool, Millis, usize, Vec<Step>)>> {
    let step = prop_oneof![
        5 => (0..4_u128, -1..3_i32, 1..5_u32, 1..20_000_i64)
            .prop_map(|(tenant, priority, cost, patience)| Step::Join { tenant, priority, cost, patience }),
        4 => (0..20_usize).prop_map(Step::Serve),
        1 => (0..20_usize, 0..1_500_i64).prop_map(|(which, time)| Step::Block(which, time)),
        2 => (0..20_usize).prop_map(Step::Admit),
        1 => (0..20_usize).prop_map(Step::Leave),
    ];
    prop::collection::vec((any::<bool>(), 0..1_500_i64, 0..4_usize, prop::collection::vec(step, 0..6)), 1..40)
}

/// The line in the store answers as the model does, whichever broker asks.
#[test]
fn the_shared_line_is_the_line() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(weir_testing::redis()).unwrap();
    let brokers = runtime.block_on(async { [lines(&server, 1).await, lines(&server, 2).await] });
    let mut runner = TestRunner::new(Cases { cases: 60, failure_persistence: None, ..Cases::default() });
    let checked = runner.run(&exchanges(), |exchanges| {
        let name = Uuid::new_v4().to_string();
        let mut line = Line::new(RULES);
        let (mut now, mut next) = (1_000_000, 0_u128);
        let mut known: Vec<(Ticket, usize)> = Vec::new();
        for (broker, pause, most, steps) in exchanges {
            let broker = usize::from(broker);
            now += pause;
            let (mut words, mut joined) = (Vec::new(), Vec::new());
            for step in steps {
                let which = |n: usize| known.get(n % known.len().max(1)).map_or(ticket(0), |(ticket, _)| *ticket);
                match step {
                    Step::Join { tenant, priority, cost, patience } => {
                        next += 1;
                        let (ticket, tenant) = (ticket(next), Uuid::from_u128(tenant).into());
                        let newcomer = Newcomer { ticket, tenant, priority, cost, waited: patience % 7, patience };
                        words.push(Word::Join(newcomer));
                        let (since, deadline) = (now - newcomer.waited, now + patience);
                        joined.push(line.join(Call { ticket, tenant, priority, cost, since, deadline }));
                        known.push((ticket, broker));
                    }
                    Step::Serve(n) => {
                        words.push(Word::Served(which(n)));
                        line.served(which(n), now);
                    }
                    Step::Block(n, time) => {
                        words.push(Word::Blocked(which(n), time));
                        line.blocked(which(n), now + time);
                    }
                    Step::Admit(n) => {
                        words.push(Word::Admitted(which(n)));
                        line.admitted(which(n), now);
                    }
                    Step::Leave(n) => {
                        words.push(Word::Leaves(which(n)));
                        line.leave(which(n));
                    }
                }
            }
            words.extend(known.iter().map(|(ticket, _)| Word::Asks(*ticket)));
            let answer = runtime.block_on(brokers[broker].exchange(&name, &words, most, Some(now))).unwrap();
            line.expire(now);
            line.turns(most, now);
            let of: HashMap<_, _> = known.iter().copied().collect();
            let turns: Vec<_> = line.with_turn().filter(|ticket| of[ticket] == broker).collect();
            let standings: Vec<_> = known.iter().map(|(ticket, _)| line.standing(*ticket, now)).collect();
            prop_assert_eq!(answer, Answer { now, wake_at: line.wake_at(), joined, turns, standings });
            known.retain(|(ticket, _)| line.standing(*ticket, now).is_some());
        }
        Ok(())
    });
    checked.unwrap();
}

#[tokio::test]
async fn the_calls_of_a_broker_that_died_are_forgotten_and_the_others_move_up() {
    let server = weir_testing::redis().await.unwrap();
    let name = Uuid::new_v4().to_string();
    let (dead, alive) = (lines(&server, 1).await, lines(&server, 2).await);
    let patient = |n| Word::Join(Newcomer { patience: 1 << 40, ..newcomer(n) });
    dead.exchange(&name, &[patient(1), patient(4)], 1, Some(1_000)).await.unwrap();
    let answer = alive.exchange(&name, &[patient(7), Word::Asks(ticket(7))], 1, Some(1_001)).await.unwrap();
    assert_eq!((answer.turns, answer.standings[0].unwrap().ahead), (vec![], 2));
    let later = 1_000 + 3_600_000;
    assert_eq!(alive.exchange(&name, &[], 1, Some(later)).await.unwrap().turns, [ticket(7)]);
}

#[tokio::test]
async fn a_call_that_another_broker_takes_over_keeps_its_place() {
    let server = weir_testing::redis().await.unwrap();
    let name = Uuid::new_v4().to_string();
    let (one, other) = (lines(&server, 1).await, lines(&server, 2).await);
    one.exchange(&name, &[Word::Join(newcomer(1)), Word::Join(newcomer(4))], 0, Some(1_000)).await.unwrap();
    let answer = other.exchange(&name, &[Word::Join(newcomer(1))], 1, Some(1_001)).await.unwrap();
    assert_eq!((answer.joined, answer.turns), (vec![true], vec![ticket(1)]));
}

/// `cargo test --release -p weir-ai-broker --lib -- --ignored --nocapture rate`
#[tokio::test]
#[ignore = "a measurement"]
async fn the_rate_of_calls_that_join_and_are_served() {
    let server = weir_testing::redis().await.unwrap();
    let lines = Lines { rules: Rules { capacity: 100_000, ..RULES }, ..lines(&server, 1).await };
    let name = Uuid::new_v4().to_string();
    let (mut served, mut next) = (0_u32, 0);
    let mut words = Vec::new();
    let began = std::time::Instant::now();
    while served < 20_000 {
        words.extend((0..64).map(|n| Word::Join(newcomer(next + n))));
        next += 64;
        let answer = lines.exchange(&name, &words, 64, None).await.unwrap();
        served += u32::try_from(answer.turns.len()).unwrap();
        words = answer.turns.into_iter().map(Word::Served).collect();
    }
    println!("{:.0} calls/s", f64::from(served) / began.elapsed().as_secs_f64());
}
