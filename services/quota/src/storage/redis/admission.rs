//! Reserve, and reading without reserving.

use weir_redis::redis::{Cmd, Value as Reply};
use weir_types::OrganizationId;

use super::program::{self, Program};
use super::{Keys, Scripts, Store, head, record, reservation_field};
use crate::domain::handle::VERSION;
use crate::domain::{Decided, Demand, Millis, Part, SubjectState};
use crate::storage::store::{Admission, Failure, Reading, Record, Reserve, Result};

impl Reserve<'_> {
    /// What is sent.
    #[must_use]
    pub fn command(&self, scripts: &Scripts) -> Cmd {
        let keys = Keys::new(&self.organization);
        let mut all = vec![keys.state(), keys.leases()];
        all.extend(self.demand.concurrent().map(|(part, limit)| keys.concurrent(limit.id, part.value)));
        let program = program(scripts.generation, self);
        let id = reservation_field(&self.id);
        let head = head(scripts.generation);
        let touched = self.demand.windows().count() + self.demand.concurrent().count();
        let tail = record::sent(VERSION, &self.draft.tail, self.context, vec![0; touched].into_iter());
        let fields: Vec<Vec<u8>> = self.demand.parts.iter().map(|part| part.value.field()).collect();
        let mut args: Vec<&[u8]> = vec![&id, program.bytes(), &head, &tail];
        args.extend(fields.iter().map(Vec::as_slice));
        super::command(&scripts.reserve, &all, &args)
    }
}

impl Store {
    /// Reserves against all limits at once, or writes nothing.
    ///
    /// # Errors
    /// When the store did not answer; it may have reserved nevertheless.
    pub async fn reserve(&self, scripts: &Scripts, reserve: &Reserve<'_>) -> Result<Admission> {
        match self.send(&reserve.command(scripts)).await? {
            Reply::BulkString(bytes) => answer(&bytes).ok_or_else(|| Failure::answer("reserve")),
            Reply::Array(values) => {
                let reading = reading(values.get(1..).unwrap_or_default());
                reading.map(Admission::Refused).ok_or_else(|| Failure::answer("reserve"))
            }
            _ => Err(Failure::answer("reserve")),
        }
    }

    /// Reads what a demand would touch. Which periods it has does not matter.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn read(&self, scripts: &Scripts, organization: &OrganizationId, demand: &Demand<'_>) -> Result<Reading> {
        let keys = Keys::new(organization);
        let mut all = vec![keys.state()];
        all.extend(demand.concurrent().map(|(part, limit)| keys.concurrent(limit.id, part.value)));
        let fields: Vec<Vec<u8>> = demand.parts.iter().map(|part| part.value.field()).collect();
        let args: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let values: Vec<Reply> = self.eval(&scripts.read, &all, &args).await?;
        reading(&values).ok_or_else(|| Failure::answer("read"))
    }
}

fn program(generation: u64, reserve: &Reserve<'_>) -> Program {
    let demand = reserve.demand;
    let limits: usize = demand.parts.iter().map(|part| part.scope.windows.len()).sum();
    let mut program = Program::with_capacity(6 + 5 * demand.parts.len() + 6 * limits + 4);
    program.push([
        i64::try_from(generation).unwrap_or(i64::MAX),
        i64::try_from(reserve.lease.as_millis()).unwrap_or(i64::MAX),
        i64::from(reserve.check_clock),
        program::len(demand.parts.len()),
        program::len(demand.concurrent().count()),
        program::len(reserve.draft.fingerprint),
    ]);
    for part in &demand.parts {
        let layout = i64::try_from(part.scope.layout).unwrap_or(i64::MAX);
        let limits = program::len(part.scope.windows.len());
        program.push([layout, i64::from(part.scope.durable), limits, sweep_after(part), part.scope.rolling]);
        for (limit, touch) in part.scope.windows.iter().zip(&part.touches) {
            let amount = touch.map_or(-1, |touch| touch.amount);
            let id = i64::from(limit.id);
            match limit.rolling() {
                Some(length) => program.push([2, id, limit.limit.cap, amount, length, limit.grain]),
                None => {
                    let (start, end) = touch.map_or((0, 0), |touch| (touch.period.start, touch.period.end));
                    program.push([1, id, limit.limit.cap, amount, start, end])
                }
            };
        }
    }
    for (_, limit) in demand.concurrent() {
        program.push([limit.limit.cap]);
    }
    program
}

/// Counters are kept for so long after their period, for those who look at it late.
const GRACE: Millis = 3_600_000;

/// When nothing that this reservation counts in matters any more; -1 if never. Rolling windows are the script's to add.
pub(super) fn sweep_after(part: &Part<'_>) -> i64 {
    if part.scope.lifetime {
        return -1;
    }
    let windows = part.scope.windows.iter().zip(&part.touches);
    let ends = windows
        .filter(|(limit, _)| limit.rolling().is_none())
        .filter_map(|(_, touch)| Some(touch.as_ref()?.period.end));
    ends.max().map_or(0, |end| end + GRACE)
}

fn answer(bytes: &[u8]) -> Option<Admission> {
    let (letter, rest) = bytes.split_first()?;
    Some(match letter {
        b'A' => {
            let numbers = program::numbers(rest);
            let (at, counters) = numbers.split_first()?;
            Admission::Admitted {
                at: *at,
                decision: counters.chunks_exact(2).map(|pair| Decided { used: pair[0], held: pair[1] }).collect(),
            }
        }
        b'D' => Admission::Duplicate(Record::decode(rest)?),
        b'I' => Admission::Reused,
        b'S' => Admission::Settled,
        b'C' => Admission::Cold,
        b'T' => Admission::OutsidePeriod(program::number(rest, 0)?),
        b'P' => Admission::LaterPeriod(program::number(rest, 8)?),
        _ => return None,
    })
}

fn reading(values: &[Reply]) -> Option<Reading> {
    let bytes = |value: &Reply| match value {
        Reply::BulkString(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let (first, states) = values.split_first()?;
    let numbers = program::numbers(&bytes(first)?);
    let (at, live) = numbers.split_first()?;
    let states: Option<Vec<_>> = states.iter().map(|value| Some(SubjectState::decode(&bytes(value)?))).collect();
    Some(Reading { at: *at, live: live.to_vec(), states: states? })
}
