//! What an engine does in one atomic step: a script, a statement, or an answer.

use super::state::*;
use super::{Fault, Protocol};

impl Protocol {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The generation that is in force; begins one if there is none. Then the engine knows its scripts are there.
    pub(super) fn verify(&self, state: &mut State, engine: usize) -> u8 {
        let generation = *state.redis.epoch.get_or_insert_with(|| {
            state.postgres.generations += 1;
            state.postgres.generations
        });
        state.redis.scripts[usize::from(generation)] = true;
        state.engines[engine] = Some(generation);
        if generation == 1 || self.has(Fault::OpenAtOnce) {
            state.redis.open = true;
        }
        generation
    }

    /// The engine's generation if its scripts can run; else it looks which one is in force, and nothing else happens.
    fn scripts(&self, state: &mut State, engine: usize) -> Option<u8> {
        match state.engines[engine] {
            Some(generation) if state.redis.scripts[usize::from(generation)] => Some(generation),
            _ => {
                self.verify(state, engine);
                None
            }
        }
    }

    /// One step of a request; none if it can't go on now.
    pub(super) fn step(&self, state: &mut State, place: usize) -> Option<()> {
        let Thread { engine, id, at } = state.threads[place].clone()?;
        let next = match at {
            At::Reserve => match self.scripts(state, engine) {
                None => At::Reserve,
                Some(generation) => self.reserve(state, engine, id, generation)?,
            },
            At::Extend => match self.scripts(state, engine) {
                None => At::Extend,
                Some(generation) => match state.redis.records[id] {
                    Record::Held(of) if of == generation => {
                        state.redis.expired[id] = false;
                        At::Answer(Answer::Extended)
                    }
                    Record::Settled(_) => At::Answer(Answer::Extended),
                    _ => self.unknown(state, engine, id, generation),
                },
            },
            At::Announce => match self.scripts(state, engine) {
                None => At::Extend,
                Some(generation) => self.announce(state, engine, id, generation),
            },
            At::Fenced { for_, fence, generation } => {
                let (total, version) = (state.postgres.total, state.postgres.version);
                At::Loaded { for_, fence, generation, total, version }
            }
            At::Loaded { for_, fence, generation, total, version } => {
                self.install(state, fence, generation, total, version);
                match for_ {
                    Wants::Reserve => At::Reserve,
                    Wants::Announce => At::Announce,
                }
            }
            At::Settle(settle) if self.has(Fault::TellBeforeWriting) => match self.scripts(state, engine) {
                None => At::Settle(settle),
                Some(_) => {
                    let (row, Postgres { total, version, .. }) = (row(settle), state.postgres);
                    let version = if row == Row::Released { 0 } else { version + 1 };
                    self.apply(state, id, row, total + row.amount(), version);
                    At::Write(settle)
                }
            },
            At::Write(settle) => {
                self.write(state, id, settle);
                At::Answer(Answer::Settled(settle))
            }
            At::Settle(settle) => self.write(state, id, settle),
            At::Apply { settle, row, total, version, .. } => match self.scripts(state, engine) {
                None => at,
                Some(_) => {
                    self.apply(state, id, row, total, version);
                    At::Answer(Answer::Settled(settle))
                }
            },
            At::Answer(answer) => {
                state.threads[place] = None;
                self.hear(state, place, id, answer);
                return Some(());
            }
        };
        state.threads[place] = Some(Thread { engine, id, at: next });
        Some(())
    }

    /// The reserve script. None while money is closed: the client asks again later.
    fn reserve(&self, state: &mut State, engine: usize, id: usize, generation: u8) -> Option<At> {
        if !state.redis.open && state.redis.epoch == Some(generation) {
            return None;
        }
        match state.redis.records[id] {
            Record::Held(_) => return Some(At::Answer(Answer::Admitted)),
            Record::Settled(_) => return Some(At::Answer(Answer::Refused)),
            Record::None => {}
        }
        let counter = match state.redis.counter.as_mut() {
            Some(counter) if counter.generation == generation => counter,
            _ => return Some(self.cold(state, engine, Wants::Reserve, generation)),
        };
        if counter.spent + counter.held + RESERVED > self.budget {
            return Some(At::Answer(Answer::Refused));
        }
        counter.held += RESERVED;
        state.redis.records[id] = Record::Held(generation);
        state.reserved[id] = true;
        Some(At::Answer(Answer::Admitted))
    }

    /// It may be the engine that does not know the generation; else the books are asked.
    fn unknown(&self, state: &mut State, engine: usize, id: usize, generation: u8) -> At {
        if self.verify(state, engine) != generation {
            At::Extend
        } else if state.postgres.rows[id] != Row::None {
            At::Answer(Answer::Extended)
        } else {
            At::Announce
        }
    }

    /// Takes the fence, then makes sure of the generation.
    fn cold(&self, state: &mut State, engine: usize, for_: Wants, generation: u8) -> At {
        let fence = *state.redis.fence.get_or_insert_with(|| {
            state.redis.fences += 1;
            state.redis.fences
        });
        if self.verify(state, engine) == generation {
            At::Fenced { for_, fence, generation }
        } else {
            match for_ {
                Wants::Reserve => At::Reserve,
                Wants::Announce => At::Extend,
            }
        }
    }

    fn install(&self, state: &mut State, fence: u8, generation: u8, total: u8, version: u8) {
        let here = state.redis.fence == Some(fence) && state.redis.scripts[usize::from(generation)];
        if !here {
            return;
        }
        let known = state.redis.counter.filter(|known| known.generation == generation);
        let held = known.map_or(0, |known| known.held);
        let newer = known.filter(|known| known.version >= version);
        let (spent, version) = newer.map_or((total, version), |known| (known.spent, known.version));
        state.redis.counter = Some(Counter { generation, spent, version, held });
    }

    fn announce(&self, state: &mut State, engine: usize, id: usize, generation: u8) -> At {
        match state.redis.records[id] {
            Record::Settled(_) => return At::Answer(Answer::Extended),
            Record::Held(of) if of == generation => {
                state.redis.expired[id] = false;
                return At::Answer(Answer::Extended);
            }
            Record::Held(_) | Record::None => {}
        }
        match state.redis.counter.as_mut() {
            Some(counter) if counter.generation == generation => {
                counter.held += RESERVED;
                state.redis.records[id] = Record::Held(generation);
                state.redis.expired[id] = false;
                At::Answer(Answer::Extended)
            }
            _ => self.cold(state, engine, Wants::Announce, generation),
        }
    }

    /// The statement that writes a settlement and adds to the total, both or nothing.
    fn write(&self, state: &mut State, id: usize, settle: Settle) -> At {
        let before = state.postgres.rows[id];
        let asked = row(settle);
        let replaces = matches!(
            (before, asked),
            (Row::Committed { estimated: true, .. }, Row::Committed { estimated: false, .. })
        );
        let applied = before == Row::None || replaces;
        let after = if applied { asked } else { before };
        state.postgres.rows[id] = after;
        if self.has(Fault::ChargeAgain) && matches!(asked, Row::Committed { .. }) {
            state.postgres.total += asked.amount();
            state.postgres.version += 1;
        } else if matches!(after, Row::Committed { .. }) {
            state.postgres.total =
                state.postgres.total + after.amount() - if applied { before.amount() } else { after.amount() };
            state.postgres.version += 1;
        }
        // A release touches no total: version 0 is older than any.
        let touched = matches!(after, Row::Committed { .. });
        let (total, version) = if touched { (state.postgres.total, state.postgres.version) } else { (0, 0) };
        At::Apply { settle, row: after, total, version, applied }
    }

    /// The settle script: totals are set, and only by a newer version.
    fn apply(&self, state: &mut State, id: usize, row: Row, total: u8, version: u8) {
        let record = state.redis.records[id];
        if state.redis.counter.is_none() && !self.has(Fault::KeepFence) {
            // Whoever is loading the counter may have read the books before: it must read them again.
            state.redis.fence = None;
        }
        if let Some(counter) = state.redis.counter.as_mut() {
            if let Record::Held(of) = record
                && of == counter.generation
            {
                counter.held -= RESERVED;
            }
            if self.has(Fault::AddTotals) {
                counter.spent += row.amount();
                counter.version = version;
            } else if version > counter.version || (version > 0 && self.has(Fault::ForgetVersions)) {
                (counter.spent, counter.version) = (total, version);
            }
        }
        let estimated = matches!(row, Row::Committed { estimated: true, .. });
        let replaced = record == Record::Settled(true) && !estimated;
        if matches!(record, Record::Held(_) | Record::None) || replaced {
            state.redis.records[id] = Record::Settled(estimated);
        }
        state.redis.expired[id] = false;
    }

    /// Whoever asked hears the answer, if it still listens.
    fn hear(&self, state: &mut State, place: usize, id: usize, answer: Answer) {
        if place == JANITOR {
            state.taken = None;
            return;
        }
        // A request that was given up is heard by nobody.
        if place >= CLIENTS {
            return;
        }
        let client = &mut state.clients[id];
        *client = match (*client, answer) {
            (Client::Dead, _) => Client::Dead,
            (Client::Asking, Answer::Admitted) => Client::Holding,
            (Client::Asking, Answer::Refused) => Client::Refused,
            (Client::Settling(settle), Answer::Settled(_)) => Client::Settled(settle),
            (client, _) => client,
        };
    }
}

const fn row(settle: Settle) -> Row {
    match settle {
        Settle::Commit => Row::Committed { amount: ACTUAL, estimated: false },
        Settle::Estimate => Row::Committed { amount: RESERVED, estimated: true },
        Settle::Release => Row::Released,
    }
}
