//! The protocol between engines, the fast store and the books, explored exhaustively: every order in which the steps of a few
//! requests, crashes, losses and repetitions can happen.
//!
//! Two clients with a reservation each, two engines, a janitor that settles what expires, a budget that fits one or both. What is
//! one step here is one script, one statement or one message in the engine. Assumed: live clients announce their reservations, and
//! answers that are on their way arrive, before the window after a loss has passed. A client that dies and whose record is lost is
//! known to nobody; that double fault is left out of the sum, as the documentation says.
//!
//! Beside it, the same with one mistake each: the checker must find it, or it would prove nothing.

mod state;
mod steps;

use stateright::{Checker, HasDiscoveries, Model, Property};

use state::*;

/// The protocol, within bounds.
#[derive(Debug, Clone)]
struct Protocol {
    budget: u8,
    left: Left,
    fault: Option<Fault>,
}

/// A mistake that an implementation could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The fast store is told of a settlement before it is on the books.
    TellBeforeWriting,
    /// A total that comes late replaces a newer one.
    ForgetVersions,
    /// Totals are added to instead of set.
    AddTotals,
    /// A settlement that is repeated is charged again.
    ChargeAgain,
    /// Money is open at once after a loss.
    OpenAtOnce,
    /// A settlement that finds no counter leaves alone who is loading it.
    KeepFence,
    /// A take-over removes the record instead of moving its lease ahead.
    TakeAway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Reserve(usize, usize),
    Settle(usize, usize, Settle),
    Announce(usize, usize),
    /// Asks again because the engine died.
    AskAgain(usize, usize),
    /// Asks again because the answer takes long; the first request goes on.
    Repeat(usize, usize),
    Step(usize),
    TakeOver(usize),
    Expire(usize),
    CrashEngine(usize),
    CrashClient(usize),
    CrashJanitor,
    /// The fast store's data is lost; with its scripts, if it was restarted.
    Lose {
        scripts: bool,
    },
    /// The time for announcements is over.
    WindowPasses,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            redis: Redis::default(),
            postgres: Postgres::default(),
            engines: [None; ENGINES],
            clients: [Client::Idle; CLIENTS],
            threads: std::array::from_fn(|_| None),
            taken: None,
            reserved: [false; CLIENTS],
            forgotten: [false; CLIENTS],
            left: self.left,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for id in 0..CLIENTS {
            for engine in 0..ENGINES {
                let free = state.threads[id].is_none();
                match state.clients[id] {
                    Client::Idle => actions.push(Action::Reserve(id, engine)),
                    Client::Holding if free => {
                        actions.push(Action::Settle(id, engine, Settle::Commit));
                        actions.push(Action::Settle(id, engine, Settle::Release));
                        if !state.counts(id) && state.postgres.rows[id] == Row::None {
                            actions.push(Action::Announce(id, engine));
                        }
                    }
                    Client::Asking | Client::Settling(_) if free => actions.push(Action::AskAgain(id, engine)),
                    Client::Asking | Client::Settling(_)
                        if state.left.repeats > 0 && state.threads[CLIENTS + id].is_none() =>
                    {
                        actions.push(Action::Repeat(id, engine));
                    }
                    _ => {}
                }
            }
            if state.left.expiries > 0 && matches!(state.redis.records[id], Record::Held(_)) && !state.redis.expired[id]
            {
                actions.push(Action::Expire(id));
            }
            let over = matches!(state.clients[id], Client::Dead | Client::Idle | Client::Refused | Client::Settled(_));
            if state.left.client_crashes > 0 && !over {
                actions.push(Action::CrashClient(id));
            }
        }
        actions.extend((0..THREADS).filter(|place| state.threads[*place].is_some()).map(Action::Step));
        for engine in 0..ENGINES {
            if state.threads[JANITOR].is_none() && (state.taken.is_some() || state.to_take().is_some()) {
                actions.push(Action::TakeOver(engine));
            }
            if state.left.engine_crashes > 0 && state.engines[engine].is_some() {
                actions.push(Action::CrashEngine(engine));
            }
        }
        if state.left.client_crashes > 0 && state.taken.is_some() {
            actions.push(Action::CrashJanitor);
        }
        if state.left.losses > 0 && state.redis.epoch.is_some() {
            actions.push(Action::Lose { scripts: false });
            actions.push(Action::Lose { scripts: true });
        }
        if state.redis.epoch.is_some() && !state.redis.open && state.all_announced() {
            actions.push(Action::WindowPasses);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let thread = |engine, id, at| Some(Thread { engine, id, at });
        match action {
            Action::Reserve(id, engine) => {
                state.clients[id] = Client::Asking;
                state.threads[id] = thread(engine, id, At::Reserve);
            }
            Action::Settle(id, engine, settle) => {
                state.clients[id] = Client::Settling(settle);
                state.threads[id] = thread(engine, id, At::Settle(settle));
            }
            Action::Announce(id, engine) => state.threads[id] = thread(engine, id, At::Extend),
            Action::AskAgain(id, engine) | Action::Repeat(id, engine) => {
                if matches!(action, Action::Repeat(..)) {
                    state.left.repeats -= 1;
                    state.threads[CLIENTS + id] = state.threads[id].take();
                }
                let at = match state.clients[id] {
                    Client::Settling(settle) => At::Settle(settle),
                    _ => At::Reserve,
                };
                state.threads[id] = thread(engine, id, at);
            }
            Action::Step(place) => {
                self.step(&mut state, place)?;
                if state == *last {
                    return None;
                }
            }
            Action::TakeOver(engine) => {
                let id = state.taken.or_else(|| state.to_take())?;
                if state.taken.is_none() {
                    state.redis.expired[id] = false;
                    if self.fault == Some(Fault::TakeAway) {
                        state.redis.records[id] = Record::None;
                    }
                }
                state.taken = Some(id);
                state.threads[JANITOR] = thread(engine, id, At::Settle(Settle::Estimate));
            }
            Action::Expire(id) => {
                state.left.expiries -= 1;
                state.redis.expired[id] = true;
            }
            Action::CrashEngine(engine) => {
                state.left.engine_crashes -= 1;
                state.engines[engine] = None;
                for place in 0..THREADS {
                    if state.threads[place].as_ref().is_some_and(|thread| thread.engine == engine) {
                        state.threads[place] = None;
                    }
                }
            }
            Action::CrashClient(id) => {
                state.left.client_crashes -= 1;
                let admitted = matches!(state.clients[id], Client::Holding | Client::Settling(_));
                state.forgotten[id] = admitted && state.redis.emptied > 0 && !state.counts(id);
                state.clients[id] = Client::Dead;
            }
            Action::CrashJanitor => {
                state.left.client_crashes -= 1;
                state.threads[JANITOR] = None;
                state.taken = None;
            }
            Action::Lose { scripts } => {
                state.left.losses -= 1;
                for id in 0..CLIENTS {
                    let held = matches!(state.redis.records[id], Record::Held(_));
                    state.forgotten[id] |=
                        held && state.clients[id] == Client::Dead && state.postgres.rows[id] == Row::None;
                }
                let known = if scripts { Default::default() } else { state.redis.scripts };
                let (emptied, fences) = (state.redis.emptied + 1, state.redis.fences);
                state.redis = Redis { emptied, fences, scripts: known, ..Redis::default() };
            }
            Action::WindowPasses => state.redis.open = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never more than fits", |model: &Self, state: &State| state.admitted() <= model.budget),
            Property::always("the books add up", |_, state: &State| {
                state.postgres.total == state.postgres.rows.iter().map(|row| row.amount()).sum::<u8>()
            }),
            Property::always("what is acknowledged is on the books", |_, state: &State| {
                state.clients.iter().zip(&state.postgres.rows).all(|(client, row)| match client {
                    Client::Settled(Settle::Commit) => matches!(row, Row::Committed { .. } | Row::Released),
                    Client::Settled(_) => *row != Row::None,
                    _ => true,
                })
            }),
            Property::always("when all is quiet the counter is what it must be", |_, state: &State| {
                !state.is_quiet() || state.counter_is_right()
            }),
            Property::always("whose lease has ended is settled by somebody", |model: &Self, state: &State| {
                let mut actions = Vec::new();
                model.actions(state, &mut actions);
                let ends = actions.iter().all(|action| model.next_state(state, *action).is_none());
                !ends || state.is_over()
            }),
            Property::sometimes("both are admitted", |_, state: &State| {
                state.clients.iter().all(|client| matches!(client, Client::Holding | Client::Settled(Settle::Commit)))
            }),
            Property::sometimes("one is refused", |_, state: &State| state.clients.contains(&Client::Refused)),
        ]
    }
}

impl State {
    /// Whether the store counts a reservation as held.
    fn counts(&self, id: usize) -> bool {
        matches!((self.redis.records[id], self.redis.epoch), (Record::Held(of), Some(epoch)) if of == epoch)
    }

    fn to_take(&self) -> Option<usize> {
        (0..CLIENTS).find(|id| self.redis.expired[*id] && matches!(self.redis.records[*id], Record::Held(_)))
    }

    /// What live clients hold counts again or is settled, and no answer is on its way that says that more is held.
    fn all_announced(&self) -> bool {
        (0..CLIENTS).all(|id| {
            let known = self.counts(id) || matches!(self.redis.records[id], Record::Settled(_));
            let live = matches!(self.clients[id], Client::Holding | Client::Settling(_));
            let told = [id, CLIENTS + id].iter().any(|place| {
                self.threads[*place].as_ref().is_some_and(|thread| thread.at == At::Answer(Answer::Admitted))
            });
            known || !(live || told)
        })
    }

    /// What was admitted and not given back.
    fn admitted(&self) -> u8 {
        let of = |id: usize| match (self.postgres.rows[id], self.clients[id]) {
            _ if self.forgotten[id] => 0,
            (Row::None, Client::Holding | Client::Settling(_)) => RESERVED,
            (Row::None, _) if self.counts(id) => RESERVED,
            (row, _) => row.amount(),
        };
        (0..CLIENTS).map(of).sum()
    }

    fn is_quiet(&self) -> bool {
        self.threads.iter().all(Option::is_none)
            && self.taken.is_none()
            && !self.clients.iter().any(|client| matches!(client, Client::Asking | Client::Settling(_)))
    }

    fn counter_is_right(&self) -> bool {
        let Some(counter) = self.redis.counter.filter(|counter| Some(counter.generation) == self.redis.epoch) else {
            return true;
        };
        let held = (0..CLIENTS).filter(|id| self.counts(*id) && self.postgres.rows[*id] == Row::None).count();
        // An engine that died between the books and the store leaves a hold until somebody asks again or the lease ends.
        let untold = (0..CLIENTS).any(|id| self.counts(id) && self.postgres.rows[id] != Row::None);
        let (counted, due) =
            (counter.spent + counter.held, self.postgres.total + RESERVED * u8::try_from(held).unwrap());
        if untold || counter.version != self.postgres.version { counted >= due } else { counted == due }
    }

    /// Nobody waits, and no ended lease is left.
    fn is_over(&self) -> bool {
        let waits = |client: &Client| matches!(client, Client::Asking | Client::Settling(_) | Client::Holding);
        !self.clients.iter().any(waits) && self.to_take().is_none() && self.taken.is_none() && self.lost_is_forgotten()
    }

    /// A reservation of a dead client is held, settled, or was lost with it.
    fn lost_is_forgotten(&self) -> bool {
        (0..CLIENTS).all(|id| {
            let dead = self.reserved[id] && self.clients[id] == Client::Dead;
            let held = matches!(self.redis.records[id], Record::Held(_));
            let gone = !held && self.postgres.rows[id] == Row::None;
            !(dead && gone) || self.redis.emptied > 0 || self.forgotten[id]
        })
    }
}

const NOTHING: Left = Left { losses: 0, engine_crashes: 0, client_crashes: 0, repeats: 0, expiries: 0 };

fn protocol(budget: u8, left: Left) -> Protocol {
    Protocol { budget, left, fault: None }
}

/// Explores everything; answers how many states there were.
fn verify(protocol: Protocol) -> usize {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    for property in ["never more than fits", "the books add up", "what is acknowledged is on the books"] {
        checker.assert_no_discovery(property);
    }
    checker.assert_no_discovery("when all is quiet the counter is what it must be");
    checker.assert_no_discovery("whose lease has ended is settled by somebody");
    assert!(checker.is_done());
    checker.unique_state_count()
}

/// The properties that a mistake breaks first.
fn broken(fault: Fault, budget: u8, left: Left) -> Vec<&'static str> {
    let protocol = Protocol { fault: Some(fault), ..protocol(budget, left) };
    let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut broken: Vec<&str> = checker.discoveries().into_keys().collect();
    broken.retain(|name| !["both are admitted", "one is refused"].contains(name));
    broken
}

const FITS: &str = "never more than fits";
const ADDS_UP: &str = "the books add up";
const QUIET: &str = "when all is quiet the counter is what it must be";

#[test]
fn whatever_is_lost_or_dies_in_whichever_order_nothing_is_oversold_and_nothing_is_lost() {
    let mut states = 0;
    for (budget, left) in [
        (4, NOTHING),
        (3, Left { engine_crashes: 1, repeats: 1, ..NOTHING }),
        (2, Left { losses: 1, engine_crashes: 1, ..NOTHING }),
        (3, Left { losses: 1, engine_crashes: 1, ..NOTHING }),
        (4, Left { losses: 1, ..NOTHING }),
        (3, Left { client_crashes: 1, expiries: 1, ..NOTHING }),
        (4, Left { client_crashes: 1, expiries: 1, ..NOTHING }),
    ] {
        states += verify(protocol(budget, left));
    }
    assert!(states > 400_000, "{states}");
}

/// More at once, which takes minutes.
#[test]
#[ignore = "millions of states"]
fn more_failures_at_once() {
    for (budget, left) in [
        (2, Left { losses: 1, repeats: 1, ..NOTHING }),
        (3, Left { losses: 2, ..NOTHING }),
        (3, Left { client_crashes: 1, expiries: 1, engine_crashes: 1, ..NOTHING }),
        (3, Left { client_crashes: 1, expiries: 1, repeats: 1, ..NOTHING }),
        (3, Left { client_crashes: 1, expiries: 1, losses: 1, ..NOTHING }),
    ] {
        let states = verify(protocol(budget, left));
        eprintln!("{budget} {left:?} {states}");
    }
}

#[test]
fn each_mistake_is_found() {
    let losses = Left { losses: 1, ..NOTHING };
    let deaths = Left { client_crashes: 1, expiries: 1, ..NOTHING };
    for (fault, budget, left, property) in [
        (Fault::TellBeforeWriting, 3, NOTHING, FITS),
        (Fault::ForgetVersions, 4, NOTHING, QUIET),
        (Fault::AddTotals, 3, Left { engine_crashes: 1, ..NOTHING }, QUIET),
        (Fault::ChargeAgain, 3, Left { repeats: 1, ..NOTHING }, ADDS_UP),
        (Fault::OpenAtOnce, 3, losses, FITS),
        (Fault::KeepFence, 4, losses, QUIET),
        (Fault::TakeAway, 3, deaths, QUIET),
    ] {
        let found = broken(fault, budget, left);
        assert!(found.contains(&property), "{fault:?} breaks {found:?}");
    }
}
