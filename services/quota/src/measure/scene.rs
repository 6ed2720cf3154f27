//! Tenants with six limits, their counters in place, and the commands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use super::Effort;
use super::plan::{AT_ONCE, counters, plan, subject_of};
use super::wire::Flight;
use crate::domain::handle::Draft;
use crate::domain::{Amounts, Demand, Handle, Kind, Millis, Plan, Subject, Value};
use crate::storage::redis::{Scripts, Store, extend_command, reserve_packed, settle_command};
use crate::storage::store::{Apply, ApplyCounter, ApplyKind, Ending, Failure, Reserve};

const LEASE: Duration = Duration::from_secs(60);
const GENERATION: u64 = 1;

#[derive(Clone)]
pub(super) struct Scene {
    store: Store,
    scripts: Arc<Scripts>,
    plan: Arc<Plan>,
    amounts: Amounts,
    now: Millis,
    depth: usize,
    lease: Duration,
    /// In the order in which they are asked for.
    reservations: Vec<(ReservationId, Subject)>,
}

impl Scene {
    pub(super) async fn new(redis: Redis, effort: Effort) -> Result<Self, Failure> {
        let mut scene = Self::empty(redis).await?;
        let mut subjects = Vec::with_capacity(effort.tenants);
        for _ in 0..effort.tenants {
            let subject = subject_of(OrganizationId::new_v7(), 0);
            scene.warm(&subject).await?;
            subjects.push(subject);
        }
        let count = effort.count.div_ceil(effort.depth) * effort.depth;
        let reservations = subjects.iter().cycle().take(count);
        scene.depth = effort.depth;
        scene.reservations = reservations.map(|subject| (ReservationId::new_v7(), subject.clone())).collect();
        Ok(scene)
    }

    /// Nobody is there yet.
    pub(super) async fn empty(redis: Redis) -> Result<Self, Failure> {
        redis.command::<()>(&cmd("FLUSHALL")).await?;
        let (store, scripts) = (Store::new(redis), Arc::new(Scripts::new(GENERATION)));
        store.load(&scripts).await?;
        let amounts = [("request", 1), ("token", 3_000), ("nano_usd", 40_000_000), ("concurrent", 1)];
        Ok(Self {
            store,
            scripts,
            plan: Arc::new(plan()),
            amounts: Amounts::new(amounts).unwrap_or_default(),
            now: chrono::Utc::now().timestamp_millis(),
            depth: 1,
            lease: LEASE,
            reservations: Vec::new(),
        })
    }

    /// Organisations, each with the counters of its own and those of its first user.
    pub(super) async fn organizations(&self, count: usize, users: usize) -> Result<Vec<OrganizationId>, Failure> {
        let mut organizations = Vec::with_capacity(count);
        for number in 0..count {
            let organization = OrganizationId::new_v7();
            self.warm(&subject_of(organization, number * users)).await?;
            organizations.push(organization);
        }
        Ok(organizations)
    }

    /// The reservations of these users, each by the place of its organisation and its own number; `depth` go together.
    pub(super) fn with(
        mut self,
        organizations: &[OrganizationId],
        users: &[(usize, usize)],
        depth: usize,
        lease: Duration,
    ) -> Self {
        let reservation = |(place, user): &(usize, usize)| {
            let subject = subject_of(organizations[*place], *user);
            (ReservationId::new_v7(), subject)
        };
        self.reservations = users.iter().map(reservation).collect();
        (self.depth, self.lease) = (depth, lease);
        self
    }

    /// Puts the counters of a user in place, as after a first request.
    async fn warm(&self, subject: &Subject) -> Result<(), Failure> {
        let counters = counters(&self.plan, subject, self.now);
        let fence = self.store.fence(&subject.organization).await?;
        self.store.install(&self.scripts, &subject.organization, &fence, &counters).await.map(drop)
    }

    /// What ended reservations have left behind is cleared away.
    pub(super) async fn sweep(&self) -> Result<(), Failure> {
        let organizations: BTreeSet<_> = self.reservations.iter().map(|(_, subject)| subject.organization).collect();
        for organization in organizations {
            let mut cursor = "0".to_owned();
            loop {
                (cursor, _) = self.store.sweep(&self.scripts, &organization, &cursor, Duration::ZERO).await?;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.reservations.len()
    }

    pub(super) fn sets(&self) -> Vec<Flight> {
        let flights = self.reservations.chunks(self.depth);
        flights
            .map(|flight| {
                let sets = flight
                    .iter()
                    .flat_map(|(id, _)| cmd("SET").arg(id.as_uuid().as_bytes()).arg(&[7_u8; 16]).get_packed_command());
                Flight { bytes: sets.collect(), answers: flight.len() }
            })
            .collect()
    }

    pub(super) fn reserves(&self) -> Vec<Flight> {
        let flights = self.reservations.chunks(self.depth);
        flights
            .map(|flight| {
                let demands: Vec<(Demand<'_>, Draft)> = flight
                    .iter()
                    .map(|(id, subject)| {
                        let demand = Demand::new(&self.plan, subject, &self.amounts, self.now);
                        let draft = Draft::new(*id, subject, &self.amounts, &demand);
                        (demand, draft)
                    })
                    .collect();
                let reserves: Vec<Reserve<'_>> = flight
                    .iter()
                    .zip(&demands)
                    .map(|((id, subject), (demand, draft))| Reserve {
                        id: *id,
                        organization: subject.organization,
                        demand,
                        draft,
                        context: &[7; 200],
                        lease: self.lease,
                        check_clock: true,
                    })
                    .collect();
                let (bytes, answers) = reserve_packed(&self.scripts, &reserves);
                Flight { bytes, answers }
            })
            .collect()
    }

    pub(super) fn extends(&self) -> Vec<Flight> {
        let flights = self.reservations.chunks(self.depth);
        flights
            .map(|flight| {
                let leases: Vec<_> = flight
                    .iter()
                    .map(|(id, subject)| (subject.organization, *id, vec![(AT_ONCE, Value::Organization)]))
                    .collect();
                one(&extend_command(&self.scripts, &leases, self.lease))
            })
            .collect()
    }

    pub(super) fn commits(&self) -> Vec<Flight> {
        let flights = self.reservations.chunks(self.depth);
        flights
            .map(|flight| {
                let mut tenants: Vec<(OrganizationId, Vec<Apply>)> = Vec::new();
                for (id, subject) in flight {
                    let apply = self.apply(*id, subject);
                    match tenants.iter_mut().find(|(organization, _)| *organization == subject.organization) {
                        Some((_, applies)) => applies.push(apply),
                        None => tenants.push((subject.organization, vec![apply])),
                    }
                }
                one(&settle_command(&self.scripts, &tenants))
            })
            .collect()
    }

    /// Fewer tokens and less money than was reserved.
    fn apply(&self, id: ReservationId, subject: &Subject) -> Apply {
        let demand = Demand::new(&self.plan, subject, &self.amounts, self.now);
        let handle = Draft::new(id, subject, &self.amounts, &demand).at(self.now, &[]);
        let handle = Handle::decode(&handle).ok();
        let counters = handle.iter().flat_map(|handle| {
            handle.counters.iter().map(|counter| {
                let limit = demand.windows().map(|(_, limit, _)| limit).find(|limit| limit.id == counter.limit);
                let kind = limit.map_or(Kind::Lifetime, |limit| limit.limit.window.kind());
                ApplyCounter {
                    value: handle.values[counter.value].clone(),
                    limit: counter.limit,
                    kind: match kind {
                        Kind::Rolling(length) => ApplyKind::Rolling(length, false),
                        _ => ApplyKind::Total(1, 1),
                    },
                    place: counter.place(kind, handle.reserved_at),
                    reserved: counter.amount,
                    actual: if counter.amount > 1 { counter.amount / 2 } else { counter.amount },
                    before: 0,
                }
            })
        });
        Apply {
            id,
            ending: Ending::Final,
            written_in: None,
            reserved_at: Some(0),
            counters: counters.collect(),
            concurrent: vec![(AT_ONCE, Value::Organization)],
        }
    }

    /// Everything was held, and is not any more.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let Some((_, subject)) = self.reservations.first() else { return Ok(()) };
        let contents = self.store.contents(&subject.organization).await?;
        let held = contents.subjects.iter().flat_map(|(_, state)| &state.entries).map(|entry| entry.held).max();
        let demand = Demand::new(&self.plan, subject, &self.amounts, self.now);
        let live = self.store.read(&self.scripts, &subject.organization, &demand).await?.live;
        let settled = held == Some(0) && contents.held.is_empty() && live == [0];
        if settled {
            Ok(())
        } else {
            Err(Failure::Redis(weir_redis::Error::Internal("something is still held".to_owned())))
        }
    }
}

fn one(command: &weir_redis::redis::Cmd) -> Flight {
    Flight { bytes: command.get_packed_command(), answers: 1 }
}
