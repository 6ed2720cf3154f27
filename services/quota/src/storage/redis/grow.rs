//! Letting a reservation hold more.

use super::program::{self, Program, len};
use super::request::{Request, Touched};
use super::{Keys, Scripts, Store, record};
use crate::domain::{Decided, SubjectState, lease};
use crate::storage::store::{Admission, ApplyKind, Failure, Grow, Reading, Result};

impl Store {
    /// Lets a reservation hold more, or changes nothing.
    ///
    /// # Errors
    /// When the store did not answer; it may have grown nevertheless.
    pub async fn grow(&self, scripts: &Scripts, grow: &Grow<'_>) -> Result<Admission> {
        let keys = Keys::new(&grow.whole.organization);
        let whole = Request::new(scripts, &grow.whole);
        let (program, fields) = program(&whole, grow);
        let mut kept = Vec::new();
        let counters = grow.whole.demand.counters().count();
        let draft = grow.whole.draft;
        record::send(&mut kept, draft.version, &draft.tail, grow.whole.context, vec![0; counters].into_iter());
        let mut args: Vec<&[u8]> = vec![&whole.id, program.bytes(), &kept];
        args.extend(fields.iter().map(Vec::as_slice));
        let answer: Vec<Vec<u8>> = self.eval(&scripts.grow, &[keys.state(), keys.leases()], &args).await?;
        read(&answer, grow)
    }
}

/// What the script is told, and the fields that it needs: the plan's subjects first, then those of which only something is given
/// back, then the concurrency limits.
fn program(whole: &Request, grow: &Grow<'_>) -> (Program, Vec<Vec<u8>>) {
    let mut fields: Vec<Vec<u8>> = whole.subjects.iter().map(|subject| subject.field.clone()).collect();
    let mut held = Program::with_capacity(5 * grow.held.len());
    for counter in &grow.held {
        let field = counter.value.field();
        let place = fields.iter().position(|known| *known == field).unwrap_or_else(|| {
            fields.push(field);
            fields.len() - 1
        });
        let length = if let ApplyKind::Rolling(length, _) = counter.kind { length } else { 0 };
        held.push_len(place + 1).push([i64::from(counter.limit), length, counter.place, counter.reserved]);
    }
    let mut program = Program::with_capacity(64);
    program.push([i64::try_from(whole.generation).unwrap_or(i64::MAX), grow.reserved_at]);
    program.push([whole.lease, lease::grain(whole.lease), len(fields.len()), len(whole.concurrent.len())]);
    program.push([len(grow.held.len()), len(whole.subjects.len()), i64::from(whole.check_clock)]);
    program.append(&held);
    for subject in &whole.subjects {
        let [layout, durable, limits, sweep, rolling] = subject.plan[..super::request::PLAN] else { continue };
        program.push([layout, durable, sweep, rolling, limits]);
        for place in 0..Touched::limits(&subject.plan) {
            let amount =
                subject.amounts.iter().find(|(touched, _)| *touched == place).map_or(-1, |(_, amount)| *amount);
            for number in Touched::limit(&subject.plan, place) {
                program.push([*number]);
            }
            program.push([amount]);
        }
    }
    for (_, cap) in &whole.concurrent {
        program.push([*cap]);
    }
    fields.extend(whole.concurrent.iter().map(|(field, _)| field.clone()));
    (program, fields)
}

fn read(answer: &[Vec<u8>], grow: &Grow<'_>) -> Result<Admission> {
    let unexpected = || Failure::answer("grow");
    let (letter, rest) = answer.split_first().ok_or_else(unexpected)?;
    let numbers = rest.first().map(|bytes| program::numbers(bytes)).unwrap_or_default();
    let first = numbers.first().copied().ok_or_else(unexpected);
    Ok(match letter.as_slice() {
        b"A" => {
            let decision = numbers[1..].chunks_exact(2).map(|pair| Decided { used: pair[0], held: pair[1] });
            Admission::Admitted { at: first?, decision: decision.collect() }
        }
        b"N" => {
            let mut states = rest[1..].iter().map(|bytes| SubjectState::decode(bytes));
            let parts = grow.whole.demand.parts.iter();
            let states = parts.map(|part| {
                if super::request::touches_window(part) { states.next().ok_or_else(unexpected) } else { Ok(None) }
            });
            Admission::Refused(Reading {
                at: first?,
                live: numbers[1..].to_vec(),
                states: states.collect::<Result<_>>()?,
            })
        }
        b"C" => Admission::Cold,
        b"T" => Admission::OutsidePeriod(first?),
        b"P" => Admission::LaterPeriod(first?),
        b"S" => Admission::Settled,
        b"X" => Admission::Reused,
        b"G" => return Err(Failure::OtherGeneration),
        _ => return Err(unexpected()),
    })
}
