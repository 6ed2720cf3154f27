//! What the reserve script answers to a batch.
//!
//! It says what stood in each counter before the batch and who was admitted; what stood there before each request follows.

use std::collections::VecDeque;

use weir_redis::redis::Value as Reply;

use super::batch::{Batch, Cell, Group};
use super::program::{number, numbers};
use super::record::Held;
use super::request::{PERIOD, Request, Touched};
use super::sheets::Sheets;
use crate::domain::demand::bucket_end;
use crate::domain::{Decided, Entry, LimitId, Millis, SubjectState};
use crate::storage::store::{Admission, Failure, Reading, Record, Result};

/// The answers to a batch, with the places of its requests. The states of a refusal are those of the request's subjects.
pub(super) fn read(batch: &Batch<'_>, reply: Reply) -> Option<Vec<(usize, Result<Admission>)>> {
    let Reply::Array(values) = reply else { return None };
    let mut values = Values(values.into());
    let at = number(&values.next()?, 0)?;
    let mut answers = Vec::with_capacity(batch.requests.len());
    for group in &batch.groups {
        GroupReader { requests: batch.requests, group, at }.read(&mut values, &mut answers)?;
    }
    values.0.is_empty().then_some(answers)
}

struct Values(VecDeque<Reply>);

impl Values {
    fn next(&mut self) -> Option<Vec<u8>> {
        match self.0.pop_front()? {
            Reply::BulkString(bytes) => Some(bytes),
            _ => None,
        }
    }
}

struct GroupReader<'a> {
    requests: &'a [Request],
    group: &'a Group<'a>,
    at: Millis,
}

impl GroupReader<'_> {
    fn read(&self, values: &mut Values, answers: &mut Vec<(usize, Result<Admission>)>) -> Option<()> {
        let letters = values.next()?;
        let mut before = Vec::with_capacity(self.group.shapes.len());
        for _ in &self.group.shapes {
            let pairs = numbers(&values.next()?);
            before.push(pairs.chunks_exact(2).map(|pair| Decided { used: pair[0], held: pair[1] }).collect::<Vec<_>>());
        }
        if letters.is_empty() {
            for seat in &self.group.seats {
                let plus = |(before, share): (&Decided, &i64)| plus(*before, *share);
                let decision = before.get(seat.shape)?.iter().zip(&seat.shares).map(plus).collect();
                answers.push((seat.request, Ok(Admission::Admitted { at: self.at, decision })));
            }
            return Some(());
        }
        if letters.len() != self.group.seats.len() {
            return None;
        }
        let extras: Option<VecDeque<Vec<u8>>> =
            letters.iter().flat_map(|letter| 0..extras_of(*letter)).map(|_| values.next()).collect();
        let mut extras = extras?;
        let refused = letters.contains(&b'N');
        let mut ledger = Ledger::new(self.group, self.at);
        if refused {
            for state in &mut ledger.states {
                *state = SubjectState::decode(&values.next()?);
            }
        }
        for (seat, letter) in self.group.seats.iter().zip(&letters) {
            let request = &self.requests[seat.request];
            let (cells, before) = (&self.group.shapes[seat.shape].cells, before.get(seat.shape)?);
            let answer = match letter {
                b'A' => {
                    ledger.hold(request, cells, refused);
                    let now = cells.iter().zip(before).map(|(cell, before)| plus(*before, ledger.taken(*cell)));
                    Admission::Admitted { at: self.at, decision: now.collect() }
                }
                b'N' => {
                    let sets = cells.iter().zip(before).filter(|(cell, _)| matches!(cell, Cell::Set(_)));
                    let live = sets.map(|(cell, before)| before.used + ledger.taken(*cell)).collect();
                    Admission::Refused(Reading { at: self.at, live, states: ledger.states_of(request, cells) })
                }
                b'D' => duplicate(request, record(request, &mut extras)?),
                b'S' => Admission::Settled,
                b'C' => Admission::Cold,
                b'T' => Admission::OutsidePeriod(self.at),
                b'P' => Admission::LaterPeriod(number(&extras.pop_front()?, 0)?),
                b'G' => {
                    answers.push((seat.request, Err(Failure::OtherGeneration)));
                    continue;
                }
                b'X' => {
                    answers.push((seat.request, Err(Failure::answer("reserve: the sheet's number is taken"))));
                    continue;
                }
                _ => return None,
            };
            answers.push((seat.request, Ok(answer)));
        }
        Some(())
    }
}

/// How many answers belong to a letter.
const fn extras_of(letter: u8) -> usize {
    match letter {
        b'D' => 3,
        b'P' => 1,
        _ => 0,
    }
}

/// The reservation that has the id already.
fn record(request: &Request, extras: &mut VecDeque<Vec<u8>>) -> Option<Record> {
    let (value, common, records) = (extras.pop_front()?, extras.pop_front()?, extras.pop_front()?);
    let held = Held::read(&value)?;
    let sheet = held.sheet.map_or_else(Vec::new, |number| vec![number.to_vec(), common, records]);
    Sheets::new(sheet).record(&request.id, &held)
}

fn plus(before: Decided, share: i64) -> Decided {
    Decided { used: before.used + share, held: before.held + share }
}

fn duplicate(request: &Request, record: Record) -> Admission {
    let same = record.body.tail.get(..request.fingerprint) == request.tail.get(..request.fingerprint);
    if same { Admission::Duplicate(record) } else { Admission::Reused }
}

/// What the admitted requests of a group have taken so far.
struct Ledger<'a> {
    group: &'a Group<'a>,
    at: Millis,
    windows: Vec<Vec<i64>>,
    sets: Vec<i64>,
    /// By subject; kept up to date only if somebody is refused.
    states: Vec<Option<SubjectState>>,
}

impl<'a> Ledger<'a> {
    fn new(group: &'a Group<'a>, at: Millis) -> Self {
        Self {
            group,
            at,
            windows: group.subjects.iter().map(|subject| vec![0; Touched::limits(subject.limits)]).collect(),
            sets: vec![0; group.sets()],
            states: vec![None; group.subjects.len()],
        }
    }

    fn taken(&self, cell: Cell) -> i64 {
        match cell {
            Cell::Window(subject, limit) => self.windows[subject][limit],
            Cell::Set(set) => self.sets[set],
        }
    }

    fn hold(&mut self, request: &Request, cells: &[Cell], with_states: bool) {
        for (cell, amount) in cells.iter().zip(request.amounts()) {
            match *cell {
                Cell::Window(subject, limit) => {
                    self.windows[subject][limit] += amount;
                    if with_states {
                        let plan = self.group.subjects[subject].limits;
                        let state = self.states[subject].get_or_insert_with(|| empty(request.generation, plan));
                        hold(state, request.generation, plan, limit, amount, self.at);
                    }
                }
                Cell::Set(set) => self.sets[set] += amount,
            }
        }
    }

    /// In the order of the request's subjects.
    fn states_of(&self, request: &Request, cells: &[Cell]) -> Vec<Option<SubjectState>> {
        let mut places: Vec<usize> = cells
            .iter()
            .filter_map(|cell| match cell {
                Cell::Window(subject, _) => Some(*subject),
                Cell::Set(_) => None,
            })
            .collect();
        places.dedup();
        debug_assert_eq!(places.len(), request.subjects.len());
        places.into_iter().map(|place| self.states[place].clone()).collect()
    }
}

/// What the script makes of a subject that nothing was counted for.
fn empty(generation: u64, plan: &[i64]) -> SubjectState {
    let entries = (0..Touched::limits(plan)).map(|place| {
        let limit = Touched::limit(plan, place);
        Entry {
            limit: LimitId::try_from(limit[1]).unwrap_or(0),
            period: 0,
            spent: 0,
            held: 0,
            version: 0,
            queue: (limit[0] != PERIOD).then(Vec::new),
        }
    });
    let layout = u64::try_from(plan[0]).unwrap_or(0);
    SubjectState { generation, layout, sweep_after: None, entries: entries.collect() }
}

/// What the script does to one limit of a subject.
fn hold(state: &mut SubjectState, generation: u64, plan: &[i64], place: usize, amount: i64, at: Millis) {
    if state.generation != generation {
        state.generation = generation;
        state.entries.iter_mut().for_each(|entry| entry.held = 0);
    }
    let limit = Touched::limit(plan, place);
    let Some(entry) = state.entries.get_mut(place) else { return };
    match &mut entry.queue {
        Some(queue) if amount > 0 => {
            let bucket = bucket_end(at, limit[4]);
            match queue.last_mut() {
                Some((end, size)) if *end >= bucket => *size += amount,
                _ => queue.push((bucket, amount)),
            }
            entry.spent += amount;
        }
        Some(_) => {}
        None if entry.period < limit[3] => (entry.period, entry.spent, entry.held, entry.version) = (limit[3], 0, 0, 0),
        None => {}
    }
    entry.held += amount;
}
