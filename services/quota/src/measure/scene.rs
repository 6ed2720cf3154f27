//! Tenants with six limits, their counters in place, and the commands.

use std::time::Duration;

use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_types::{ApiKeyId, OrganizationId, ReservationId, UserId};

use super::Effort;
use super::wire::Flight;
use crate::domain::handle::Draft;
use crate::domain::{
    Amounts, CalendarUnit, Demand, Handle, Kind, Limit, LimitId, Millis, OnFailure, Plan, Scope, Subject, Tuning, Unit,
    Value, Window,
};
use crate::storage::redis::{Scripts, Store, extend_command, reserve_command, settle_command};
use crate::storage::store::{Apply, ApplyCounter, ApplyKind, Ending, Failure, InstallEntry, InstallSubject, Reserve};

const ENOUGH: i64 = 1 << 50;
const LEASE: Duration = Duration::from_secs(60);
const GENERATION: u64 = 1;

pub(super) struct Scene {
    store: Store,
    scripts: Scripts,
    plan: Plan,
    amounts: Amounts,
    now: Millis,
    depth: usize,
    /// In the order in which they are asked for.
    reservations: Vec<(ReservationId, Subject)>,
}

impl Scene {
    pub(super) async fn new(redis: Redis, effort: Effort) -> Result<Self, Failure> {
        redis.command::<()>(&cmd("FLUSHALL")).await?;
        let (store, scripts) = (Store::new(redis), Scripts::new(GENERATION));
        store.load(&scripts).await?;
        let plan = plan();
        let now = chrono::Utc::now().timestamp_millis();
        let mut subjects = Vec::with_capacity(effort.tenants);
        for _ in 0..effort.tenants {
            let subject = subject();
            warm(&store, &scripts, &plan, &subject, now).await?;
            subjects.push(subject);
        }
        let count = effort.count.div_ceil(effort.depth) * effort.depth;
        let reservations = subjects.iter().cycle().take(count);
        Ok(Self {
            store,
            scripts,
            plan,
            amounts: Amounts::new([("request", 1), ("token", 3_000), ("nano_usd", 40_000_000), ("concurrent", 1)])
                .unwrap_or_default(),
            now,
            depth: effort.depth,
            reservations: reservations.map(|subject| (ReservationId::new_v7(), subject.clone())).collect(),
        })
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
                        lease: LEASE,
                        check_clock: true,
                    })
                    .collect();
                one(&reserve_command(&self.scripts, &reserves))
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
                one(&extend_command(&self.scripts, &leases, LEASE))
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

fn subject() -> Subject {
    let organization = OrganizationId::new_v7();
    Subject { organization, values: vec![Value::User(UserId::new_v7()), Value::ApiKey(ApiKeyId::new_v7())] }
}

/// The number of the concurrency limit.
const AT_ONCE: LimitId = 4;

fn plan() -> Plan {
    let month = || Window::Calendar(CalendarUnit::Month, chrono_tz::UTC);
    let minute = || Window::Rolling(60_000);
    let limit = |name: &str, scope, unit: &str, window| Limit {
        name: name.to_owned(),
        scope,
        unit: Unit::parse(unit),
        cap: ENOUGH,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    };
    let limits = [
        limit("requests-per-minute", Scope::Organization, "request", minute()),
        limit("tokens-per-minute", Scope::Organization, "token", minute()),
        limit("budget", Scope::Organization, "nano_usd", month()),
        limit("at-once", Scope::Organization, "concurrent", Window::Concurrent),
        limit("user-budget", Scope::User, "nano_usd", month()),
        limit("key-requests-per-minute", Scope::ApiKey, "request", minute()),
    ];
    Plan::new(1, (1..).zip(limits), Tuning { exact_up_to: 64, buckets: 60 })
}

/// Puts the counters in place, as after a first request.
async fn warm(store: &Store, scripts: &Scripts, plan: &Plan, subject: &Subject, now: Millis) -> Result<(), Failure> {
    let demand = Demand::nothing(plan, subject, now);
    let subjects: Vec<InstallSubject> = demand
        .parts
        .iter()
        .map(|part| {
            let entries = part.scope.windows.iter().map(|limit| {
                let entry = match limit.rolling() {
                    Some(_) => InstallEntry::Rolling(Vec::new()),
                    None => InstallEntry::Period(limit.period(now).start, 0, 0),
                };
                (limit.id, limit.durable, entry)
            });
            let entries = entries.collect();
            InstallSubject { value: part.value.clone(), layout: part.scope.layout, sweep_after: -1, entries }
        })
        .collect();
    let fence = store.fence(&subject.organization).await?;
    store.install(scripts, &subject.organization, &fence, &subjects).await.map(drop)
}
