//! Reserve, and reading without reserving.

use weir_redis::redis::Value as Reply;
use weir_redis::{Error as RedisError, Redis};
use weir_types::OrganizationId;

use super::batch::Batch;
use super::combiner::{Left, Operation};
use super::request::{Request, touches_window};
#[cfg(feature = "measure")]
use super::sending::Sending;
use super::{Keys, Scripts, Store, answers, concurrency_field, program};
use crate::domain::{Demand, SubjectState};
use crate::storage::store::{Admission, Failure, Reading, Reserve, Result};

/// Reserving, for many at once.
pub(super) struct Reserving {
    pub(super) redis: Redis,
}

impl Operation for Reserving {
    type Lane = Option<OrganizationId>;
    type Item = Request;
    type Outcome = Admission;

    fn weight(request: &Request) -> usize {
        request.weight()
    }

    async fn run(&self, requests: Vec<Request>, left: &[Left]) -> Vec<Result<Admission>> {
        let mut outcomes: Vec<Option<Result<Admission>>> = requests.iter().map(|_| None).collect();
        let mut waiting: Vec<usize> = (0..requests.len()).collect();
        while !waiting.is_empty() {
            let batch = Batch::new(&requests, waiting);
            self.run_batch(&batch, left, &mut outcomes).await;
            waiting = batch.rest;
            waiting.retain(|place| !left[*place].is_so());
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(Failure::answer("reserve")))).collect()
    }
}

impl Reserving {
    async fn run_batch(&self, batch: &Batch<'_>, left: &[Left], outcomes: &mut [Option<Result<Admission>>]) {
        let places = batch.places();
        match self.ask(batch).await {
            Ok(answers) => {
                for (place, admission) in answers {
                    outcomes[place] = Some(admission);
                }
            }
            // One that the script can't be run for must not keep the others from it. Those that were admitted before it was found
            // are answered as duplicates.
            Err(Failure::Redis(RedisError::Script(_))) if places.len() > 1 => {
                for place in places.into_iter().filter(|place| !left[*place].is_so()) {
                    let alone = Batch::new(batch.requests, vec![place]);
                    let answer = self.ask(&alone).await;
                    outcomes[place] = Some(answer.and_then(|mut answers| {
                        answers.pop().map_or_else(|| Err(Failure::answer("reserve")), |(_, admission)| admission)
                    }));
                }
            }
            Err(failure) => places.into_iter().for_each(|place| outcomes[place] = Some(Err(failure.clone()))),
        }
    }

    async fn ask(&self, batch: &Batch<'_>) -> Result<Vec<(usize, Result<Admission>)>> {
        // The driver redirects a command while slots move, and no transaction.
        let ahead = !self.redis.is_cluster();
        let Some(sending) = batch.sending(ahead) else { return Ok(Vec::new()) };
        let reply = sending.send(&self.redis).await?;
        answers::read(batch, reply).ok_or_else(|| Failure::answer("reserve"))
    }
}

/// What is sent to reserve several at once, packed, and how many answers it gets; those that can't go together are left out.
#[cfg(feature = "measure")]
#[must_use]
pub fn reserve_packed(scripts: &Scripts, reserves: &[Reserve<'_>]) -> (Vec<u8>, usize) {
    let requests: Vec<Request> = reserves.iter().map(|reserve| Request::new(scripts, reserve)).collect();
    let sending = Batch::new(&requests, (0..requests.len()).collect()).sending(true);
    sending.map_or_else(Default::default, Sending::packed)
}

impl Store {
    /// Reserves against all limits at once, or writes nothing. Goes together with others that wait.
    ///
    /// # Errors
    /// When the store did not answer; it may have reserved nevertheless.
    pub async fn reserve(&self, scripts: &Scripts, reserve: &Reserve<'_>) -> Result<Admission> {
        let lane = self.lane(&reserve.organization);
        let mut admission = self.reserving.call(lane, Request::new(scripts, reserve)).await?;
        if let Admission::Refused(reading) = &mut admission {
            // Parts without a window that is touched are not looked at.
            let mut states = std::mem::take(&mut reading.states).into_iter();
            let parts = reserve.demand.parts.iter();
            reading.states =
                parts.map(|part| if touches_window(part) { states.next().flatten() } else { None }).collect();
        }
        Ok(admission)
    }

    /// Reads what a demand would touch. Which periods it has does not matter.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn read(&self, scripts: &Scripts, organization: &OrganizationId, demand: &Demand<'_>) -> Result<Reading> {
        let limits = demand.concurrent().map(|(part, limit)| concurrency_field(limit.id, part.value));
        let mut fields: Vec<Vec<u8>> = limits.collect();
        let count = fields.len().to_string();
        fields.extend(demand.parts.iter().map(|part| part.value.field()));
        let args: Vec<&[u8]> = std::iter::once(count.as_bytes()).chain(fields.iter().map(Vec::as_slice)).collect();
        let values: Vec<Reply> = self.eval(&scripts.read, &[Keys::new(organization).state()], &args).await?;
        reading(&values).ok_or_else(|| Failure::answer("read"))
    }
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
