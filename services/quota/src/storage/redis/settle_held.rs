//! Applying what Postgres has decided, many at once.
//!
//! Nearly every settlement is of a reservation that is held in this generation. Those of one tenant then change each counter by one
//! sum, and the settlements of many tenants go together. Where one is not held, its tenant's are applied each for itself.

use std::collections::HashMap;

use weir_redis::redis::{Cmd, from_redis_value};
use weir_redis::{Error as RedisError, Redis};
use weir_types::{MAX_AMOUNT, OrganizationId};

use super::combiner::{Left, Operation};
use super::program::{Program, len};
use super::{Keys, Script, Scripts, Store, concurrency_field, reservation_field, send, settle};
use crate::domain::{LimitId, Millis, Value};
use crate::storage::store::{Applied, Apply, ApplyCounter, ApplyKind, Failure, Result};

/// Settlements of one tenant.
pub(super) struct Settle {
    generation: u64,
    script: Script,
    count: usize,
    state: Vec<u8>,
    /// One after the other.
    ids: Vec<u8>,
    /// Of the subjects, then of the concurrency limits' counters.
    fields: Vec<Vec<u8>>,
    program: Program,
    /// Where each is held is known, and no sum is beyond what doubles count exactly.
    exact: bool,
}

/// Settling, for many tenants at once.
pub(super) struct Settling {
    pub(super) redis: Redis,
}

impl Operation for Settling {
    type Lane = Option<OrganizationId>;
    type Item = Settle;
    /// None where not all are held.
    type Outcome = Option<Vec<Applied>>;

    /// About five hundred settlements are as much as the store should do at a time.
    fn weight(settle: &Settle) -> usize {
        512 * settle.count
    }

    async fn run(&self, items: Vec<Settle>, _: &[Left]) -> Vec<Result<Option<Vec<Applied>>>> {
        let generation = items.first().map(|item| item.generation);
        let together: Vec<usize> = (0..items.len())
            .filter(|place| items[*place].exact && Some(items[*place].generation) == generation)
            .collect();
        let mut outcomes: Vec<Result<Option<Vec<Applied>>>> = items.iter().map(|_| Ok(None)).collect();
        match self.held(&items, &together).await {
            Ok(answers) => {
                for (place, answer) in together.iter().zip(answers) {
                    outcomes[*place] =
                        if answer.is_empty() { Ok(None) } else { digits(&answer, items[*place].count).map(Some) };
                }
            }
            // One that the script can't be run for must not keep the others from it. Doing it again changes nothing.
            Err(Failure::Redis(RedisError::Script(_))) => {}
            Err(failure) => together.iter().for_each(|place| outcomes[*place] = Err(failure.clone())),
        }
        outcomes
    }
}

impl Settling {
    async fn held(&self, items: &[Settle], places: &[usize]) -> Result<Vec<Vec<u8>>> {
        let Some(command) = command(places.iter().map(|place| &items[*place])) else { return Ok(Vec::new()) };
        let reply = send(&self.redis, &command).await?;
        let answers: Vec<Vec<u8>> = from_redis_value(reply).map_err(|error| Failure::Redis(error.into()))?;
        if answers.len() == places.len() { Ok(answers) } else { Err(Failure::answer("settle")) }
    }
}

fn digits(answer: &[u8], count: usize) -> Result<Vec<Applied>> {
    if answer.len() != count {
        return Err(Failure::answer("settle"));
    }
    let applied = |digit: &u8| match digit {
        b'2' => Applied::Held,
        digit => Applied::Done { late: *digit == b'1' },
    };
    Ok(answer.iter().map(applied).collect())
}

/// What is sent for several tenants; none for nobody.
fn command<'a>(items: impl Iterator<Item = &'a Settle> + Clone) -> Option<Cmd> {
    let first = items.clone().next()?;
    let mut program = Program::with_capacity(256);
    program.push([i64::try_from(first.generation).unwrap_or(i64::MAX), len(items.clone().count())]);
    let mut keys = Vec::new();
    for item in items.clone() {
        program.append(&item.program);
        keys.push(item.state.clone());
    }
    let mut args: Vec<&[u8]> = vec![program.bytes()];
    for item in items {
        args.push(&item.ids);
        args.extend(item.fields.iter().map(Vec::as_slice));
    }
    Some(super::command(&first.script, &keys, &args))
}

/// What is sent to settle reservations of several tenants that are held.
#[cfg(feature = "measure")]
#[must_use]
pub fn settle_command(scripts: &Scripts, settles: &[(OrganizationId, Vec<Apply>)]) -> Cmd {
    let items: Vec<Settle> =
        settles.iter().map(|(organization, applies)| Settle::new(scripts, organization, applies)).collect();
    command(items.iter()).unwrap_or_default()
}

/// What all settlements together do to one counter.
struct Sum {
    limit: LimitId,
    place: Millis,
    kind: ApplyKind,
    reserved: i64,
    actual: i64,
}

impl Settle {
    fn new(scripts: &Scripts, organization: &OrganizationId, applies: &[Apply]) -> Self {
        let mut limits: Vec<Vec<u8>> = Vec::new();
        // How they end, and the limits that they count in: there are few, and nearly always one.
        let mut kinds: Vec<(i64, Vec<usize>)> = Vec::new();
        let mut kind_of = Vec::with_capacity(applies.len());
        let mut subjects: HashMap<&Value, usize> = HashMap::new();
        let mut fields: Vec<Vec<u8>> = Vec::new();
        let mut sums: Vec<Vec<Sum>> = Vec::new();
        let mut exact = true;
        for apply in applies {
            let field = |(limit, value): &(LimitId, Value)| concurrency_field(*limit, value);
            let counts_in = apply.concurrent.iter().map(|one| settle::place(&mut limits, field(one)) + 1).collect();
            kind_of.push(settle::place(&mut kinds, (settle::ending(apply.ending), counts_in)) + 1);
            for counter in &apply.counters {
                let subject = *subjects.entry(&counter.value).or_insert_with(|| {
                    fields.push(counter.value.field());
                    sums.push(Vec::new());
                    fields.len() - 1
                });
                exact &= add(&mut sums[subject], counter);
            }
        }
        let mut program = Program::with_capacity(8 + applies.len() + 8 * fields.len());
        program.push_len(applies.len()).push_len(fields.len()).push_len(limits.len()).push_len(kinds.len());
        for (ending, counts_in) in &kinds {
            program.push([*ending]).push_len(counts_in.len());
            for limit in counts_in {
                program.push_len(*limit);
            }
        }
        if kinds.len() > 1 {
            for kind in kind_of {
                program.push_len(kind);
            }
        }
        for sums in &sums {
            program.push_len(sums.len());
            for sum in sums {
                let (kind, total, version) = match sum.kind {
                    ApplyKind::Total(total, version) => (1, total, version),
                    ApplyKind::Sum => (2, 0, 0),
                    ApplyKind::Rolling(length, _) => (3, length, 0),
                };
                program.push([i64::from(sum.limit), kind, sum.place, sum.reserved, sum.actual, total, version]);
            }
        }
        Self {
            generation: scripts.generation,
            script: scripts.settle_held.clone(),
            count: applies.len(),
            state: Keys::new(organization).state(),
            ids: applies.iter().flat_map(|apply| reservation_field(&apply.id)).collect(),
            fields: fields.into_iter().chain(limits).collect(),
            program,
            exact: exact && distinct(applies) && !applies.iter().any(|apply| apply.reserved_at.is_none()),
        }
    }
}

/// Adds what a settlement does to a counter; false if the sum is not exact.
fn add(sums: &mut Vec<Sum>, counter: &ApplyCounter) -> bool {
    let ApplyCounter { limit, kind, place, reserved, actual, .. } = counter;
    match sums.iter_mut().find(|sum| sum.limit == *limit && sum.place == *place) {
        Some(sum) => {
            sum.reserved = sum.reserved.saturating_add(*reserved);
            sum.actual = sum.actual.saturating_add(*actual);
            // The newest total is the one that all are in.
            if let (ApplyKind::Total(_, known), ApplyKind::Total(_, version)) = (sum.kind, kind)
                && *version > known
            {
                sum.kind = *kind;
            }
            sum.reserved <= MAX_AMOUNT && sum.actual <= MAX_AMOUNT
        }
        None => {
            sums.push(Sum { limit: *limit, place: *place, kind: *kind, reserved: *reserved, actual: *actual });
            true
        }
    }
}

/// Whether no reservation comes twice.
fn distinct(applies: &[Apply]) -> bool {
    let ids: std::collections::HashSet<_> = applies.iter().map(|apply| apply.id).collect();
    ids.len() == applies.len()
}

impl Store {
    /// Applies settlements of one tenant; at most a few hundred at once. Answers for each what it found. Goes together with others
    /// that wait.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn settle(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        settles: &[Apply],
    ) -> Result<Vec<Applied>> {
        let held = self.settling.call(self.lane(organization), Settle::new(scripts, organization, settles)).await?;
        match held {
            Some(applied) => Ok(applied),
            None => {
                digits(&self.send::<Vec<u8>>(&settle::command(scripts, organization, settles)).await?, settles.len())
            }
        }
    }
}
