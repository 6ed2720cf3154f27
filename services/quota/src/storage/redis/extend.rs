//! Lengthening leases, many at once.

use std::time::Duration;

use weir_redis::Redis;
use weir_redis::redis::{Cmd, Value as Reply, from_redis_value};
use weir_types::{OrganizationId, ReservationId};

use super::combiner::{Left, Operation};
use super::program::{Program, len};
use super::{Keys, Script, Scripts, Store, concurrency_field, reservation_field, send};
use crate::domain::{LimitId, Value, lease};
use crate::storage::store::{Extended, Failure, Result};

/// A lease to lengthen.
pub(super) struct Extend {
    organization: OrganizationId,
    generation: u64,
    script: Script,
    id: [u8; 17],
    /// The fields of the counters of the concurrency limits that it counts in.
    counters: Vec<Vec<u8>>,
    lease: i64,
}

/// Lengthening, for many at once.
pub(super) struct Extending {
    pub(super) redis: Redis,
}

impl Operation for Extending {
    type Lane = Option<OrganizationId>;
    type Item = Extend;
    type Outcome = Extended;

    fn weight(extend: &Extend) -> usize {
        128 * (4 + extend.counters.len())
    }

    async fn run(&self, items: Vec<Extend>, _: &[Left]) -> Vec<Result<Extended>> {
        let mut outcomes: Vec<Option<Result<Extended>>> = items.iter().map(|_| None).collect();
        for places in by_generation(&items) {
            let (command, order) = command(&items, &places);
            match send(&self.redis, &command).await.and_then(|reply| letters(reply, order.len())) {
                Ok(letters) => {
                    order.iter().zip(letters).for_each(|(place, letter)| outcomes[*place] = Some(Ok(letter)))
                }
                Err(failure) => order.iter().for_each(|place| outcomes[*place] = Some(Err(failure.clone()))),
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(Failure::answer("extend")))).collect()
    }
}

/// Nearly always one.
fn by_generation(items: &[Extend]) -> Vec<Vec<usize>> {
    let mut generations: Vec<Vec<usize>> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        match generations.iter_mut().find(|places| items[places[0]].generation == item.generation) {
            Some(places) => places.push(place),
            None => generations.push(vec![place]),
        }
    }
    generations
}

/// What is sent, and whose answer comes at which place.
fn command(items: &[Extend], places: &[usize]) -> (Cmd, Vec<usize>) {
    let mut tenants: Vec<(&OrganizationId, Vec<usize>)> = Vec::new();
    for place in places {
        let organization = &items[*place].organization;
        match tenants.iter_mut().find(|(tenant, _)| *tenant == organization) {
            Some((_, of)) => of.push(*place),
            None => tenants.push((organization, vec![*place])),
        }
    }
    let first = &items[places[0]];
    let mut program = Program::with_capacity(2 + 4 * places.len());
    program.push([i64::try_from(first.generation).unwrap_or(i64::MAX), len(tenants.len())]);
    let (mut keys, mut fields): (Vec<Vec<u8>>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (organization, places) in &tenants {
        let mut counters: Vec<&[u8]> = Vec::new();
        let mut body = Program::default();
        for place in places {
            let item = &items[*place];
            fields.push(&item.id);
            body.push([item.lease, lease::grain(item.lease)]).push_len(item.counters.len());
            for counter in &item.counters {
                let place = counters.iter().position(|known| known == counter).unwrap_or_else(|| {
                    counters.push(counter);
                    counters.len() - 1
                });
                body.push_len(place + 1);
            }
        }
        program.push_len(places.len()).push_len(counters.len()).append(&body);
        let of = Keys::new(organization);
        keys.extend([of.state(), of.leases()]);
        fields.extend(counters);
    }
    let args: Vec<&[u8]> = std::iter::once(program.bytes()).chain(fields).collect();
    (super::command(&first.script, &keys, &args), tenants.into_iter().flat_map(|(_, places)| places).collect())
}

/// By place in the answer.
fn letters(reply: Reply, count: usize) -> Result<Vec<Extended>> {
    let tenants: Vec<Vec<u8>> = from_redis_value(reply).map_err(|error| Failure::Redis(error.into()))?;
    let letters: Option<Vec<Extended>> = tenants
        .concat()
        .into_iter()
        .map(|letter| match letter {
            b'E' => Some(Extended::Extended),
            b'S' => Some(Extended::Settled),
            b'U' => Some(Extended::Unknown),
            _ => None,
        })
        .collect();
    letters.filter(|letters| letters.len() == count).ok_or_else(|| Failure::answer("extend"))
}

/// A lease: whose, of which reservation, and the concurrency limits that it counts in.
#[cfg(feature = "measure")]
pub type Leased = (OrganizationId, ReservationId, Vec<(LimitId, Value)>);

/// What is sent to lengthen several leases at once.
#[cfg(feature = "measure")]
#[must_use]
pub fn extend_command(scripts: &Scripts, leases: &[Leased], lease: Duration) -> Cmd {
    let items =
        leases.iter().map(|(organization, id, concurrent)| Extend::new(scripts, organization, id, concurrent, lease));
    let items: Vec<Extend> = items.collect();
    command(&items, &(0..items.len()).collect::<Vec<_>>()).0
}

impl Extend {
    fn new(
        scripts: &Scripts,
        organization: &OrganizationId,
        id: &ReservationId,
        concurrent: &[(LimitId, Value)],
        lease: Duration,
    ) -> Self {
        Self {
            organization: *organization,
            generation: scripts.generation,
            script: scripts.extend.clone(),
            id: reservation_field(id),
            counters: concurrent.iter().map(|(limit, value)| concurrency_field(*limit, value)).collect(),
            lease: i64::try_from(lease.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

impl Store {
    /// Lengthens a lease. Goes together with others that wait.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn extend(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        id: &ReservationId,
        concurrent: &[(LimitId, Value)],
        lease: Duration,
    ) -> Result<Extended> {
        self.extending.call(self.lane(organization), Extend::new(scripts, organization, id, concurrent, lease)).await
    }
}
