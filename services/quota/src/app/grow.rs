//! Extend with amounts: a reservation that turns out to need more.
//!
//! The reservation is moved as a whole: what it holds is given back and the whole reserved anew, in one step or not at all. So its
//! handle stays as simple as that of any other, and it counts in the periods and buckets in which it last grew.

use std::time::Duration;

use super::extend::{Extension, LeaseOutcome};
use super::reserve::{ATTEMPTS, admitted};
use super::shared::{Asks, SharedState, Taken, Taker, Took};
use super::{Quota, Request, Reserved};
use crate::domain::handle::{Draft, HandleShared};
use crate::domain::{Amounts, Demand, Handle, Subject};
use crate::error::{Error, Result};
use crate::storage::store::{Admission, ApplyCounter, ApplyKind, Failure, Grow, Record, Reserve};

/// What became of a reservation that shall hold more.
#[derive(Debug)]
pub struct Grown {
    /// What became of its lease.
    pub outcome: LeaseOutcome,
    /// What settles it from now on; none if it was settled before.
    pub reserved: Option<Reserved>,
}

/// How often a reservation can take more of limits across tenants.
const MOST_GROWTHS: usize = 200;

/// Before it is tried again.
const MOMENT: Duration = Duration::from_millis(2);

/// What a held reservation is, and what it shall be.
pub(super) struct Growth {
    pub(super) record: Record,
    pub(super) handle: Handle,
    subject: Subject,
    /// All of it.
    whole: Amounts,
    /// Of that, what it does not hold yet.
    more: Amounts,
}

impl Quota {
    /// Lengthens a lease and lets the reservation hold `amounts` in all, each on its own; what is not named stays as it is. All of
    /// it or nothing but the lease.
    ///
    /// # Errors
    /// As for Reserve. [`Error::Invalid`] if it would hold less than before. Doing it again is safe.
    pub async fn grow(&self, extension: Extension, amounts: Amounts) -> Result<Grown> {
        let _place = self.gate.begin()?;
        let id = extension.id;
        let organization = Handle::decode(&extension.handle)?.organization;
        for _ in 0..ATTEMPTS {
            let (outcomes, epoch) = Box::pin(self.extend(vec![extension.clone()])).await?;
            let outcome = outcomes.first().copied().unwrap_or(LeaseOutcome::Settled);
            if outcome == LeaseOutcome::Settled {
                return Ok(Grown { outcome, reserved: None });
            }
            let Some(record) = self.store.find(&organization, &id).await? else { continue };
            if record.generation != epoch {
                continue;
            }
            let growth = Growth::of(record, &amounts)?;
            match Box::pin(self.grow_once(&growth, &extension)).await {
                Ok(Some(reserved)) => return Ok(Grown { outcome, reserved: Some(reserved) }),
                Ok(None) => {}
                Err(error) => {
                    self.note_refusal(&growth, &extension, &error);
                    return Err(error);
                }
            }
            // It has changed meanwhile, or was made in this very millisecond.
            tokio::time::sleep(MOMENT).await;
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// None if the reservation is not what it was thought to be.
    async fn grow_once(&self, growth: &Growth, extension: &Extension) -> Result<Option<Reserved>> {
        let Growth { handle, subject, .. } = growth;
        let id = handle.organization;
        let organization = self.entitlements.organization(&id);
        let plan = self.entitlements.plan(&id, &organization).await?;
        let plan = self.with_held(plan, handle).await?;
        let brought = self.shared.brought_by(handle).await?;
        let asks = self.shared.asks(&plan, subject, &growth.more, &brought).await?;
        let held = self.held_in(handle).await?;
        let (mut now, mut check_clock) = (self.now(), true);
        for _ in 0..ATTEMPTS {
            let epoch = self.epochs.current().await?;
            let demand = Demand::new(&plan, subject, &growth.whole, now);
            if growth.more == Amounts::default() {
                return self.as_it_is(growth, &demand, &asks, epoch.number()).await.map(Some);
            }
            if (demand.is_durable() || asks.is_durable())
                && let Some(left) = epoch.closed_for()
            {
                return Err(Error::Rebuilding(left));
            }
            // What a store has kept of calls under way counts before anything more is admitted.
            if epoch.follows() && demand.is_durable() {
                Box::pin(self.recount(&id, &organization, &epoch)).await?;
            }
            let mut taken = match self.take_more(growth, &asks, epoch.number(), extension).await? {
                Took::All(taken) => taken,
                Took::Moved => {
                    self.epochs.verify().await?;
                    return Ok(None);
                }
                Took::Short(short) => {
                    let refused = self.growth_refused_across(growth, &demand, &held, (&asks, &short), &epoch);
                    let Some(refusal) = Box::pin(refused).await? else { return Ok(None) };
                    self.metrics.refused.increment(1);
                    return Err(refusal);
                }
            };
            let draft = growth.draft(&demand, &taken);
            let grow = Grow {
                whole: Reserve {
                    id: extension.id,
                    organization: id,
                    demand: &demand,
                    draft: &draft,
                    context: &growth.record.context,
                    lease: extension.lease,
                    check_clock,
                },
                reserved_at: growth.record.reserved_at,
                held: held.clone(),
                concurrent: handle.places(),
            };
            taken.send();
            let admission = self.store.grow(&epoch.store, &grow).await;
            if !matches!(admission, Ok(Admission::Admitted { .. }))
                && !matches!(&admission, Err(failure) if failure.is_outage())
            {
                taken.returned();
            }
            match admission {
                Ok(Admission::Admitted { at, decision }) => {
                    self.metrics.admitted.increment(1);
                    self.alerts.admitted(&id, &demand, &decision, at);
                    taken.confirm(at);
                    let mut limits = admitted(&demand, &decision, at);
                    limits.extend(self.shared.states(&asks, SharedState::Admitted, &[]));
                    return Ok(Some(Reserved { handle: draft.at(at, &decision), limits, epoch: epoch.number() }));
                }
                Ok(Admission::Refused(reading)) => {
                    self.metrics.refused.increment(1);
                    let mut limits = self.limits_of_refused_growth(growth, &demand, &reading, &epoch);
                    if !limits.iter().any(|limit| limit.refuses) {
                        return Err(Error::Bug(format!("the script refused what nothing refuses: {limits:?}")));
                    }
                    limits.extend(self.shared.states(&asks, SharedState::Refused, &[]));
                    return Err(Error::Refused(limits));
                }
                Ok(Admission::Cold) => self.warm(&id, &epoch, &demand).await?,
                Ok(Admission::OutsidePeriod(there)) => (now, check_clock) = (there, true),
                Ok(Admission::LaterPeriod(start)) => (now, check_clock) = (start, false),
                Ok(Admission::Duplicate(_) | Admission::Reused | Admission::Settled)
                | Err(Failure::OtherGeneration) => return Ok(None),
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// It holds all that already: a repeated request.
    async fn as_it_is(&self, growth: &Growth, demand: &Demand<'_>, asks: &Asks, epoch: u64) -> Result<Reserved> {
        self.metrics.repeated.increment(1);
        let mut limits = Vec::new();
        if let Some(decided) = super::reserve::decided(demand, &growth.handle) {
            limits = decided;
            limits.extend(self.shared.states(asks, SharedState::Admitted, &[]));
        }
        Ok(Reserved { handle: growth.record.handle(), limits, epoch })
    }

    async fn take_more(&self, growth: &Growth, asks: &Asks, generation: u64, extension: &Extension) -> Result<Took> {
        let number = growth.handle.shared.iter().map(|part| usize::from(part.growth)).max().unwrap_or(0) + 1;
        if number > MOST_GROWTHS && !asks.is_empty() {
            return Err(Error::Invalid("amounts", format!("it has grown {MOST_GROWTHS} times already")));
        }
        let growth_number = u8::try_from(number).unwrap_or(u8::MAX);
        let taker =
            Taker { organization: growth.handle.organization, reservation: extension.id, growth: growth_number };
        self.shared.take(asks, generation, taker, extension.lease).await
    }

    /// What a reservation holds of each counter, to be given back.
    async fn held_in(&self, handle: &Handle) -> Result<Vec<ApplyCounter>> {
        let ids: Vec<_> = handle.counters.iter().map(|counter| counter.limit).collect();
        let keys = self.dictionary.keys(&ids).await?;
        let held = handle.counters.iter().zip(&keys).map(|(counter, key)| ApplyCounter {
            value: handle.values[counter.value].clone(),
            limit: counter.limit,
            kind: match key.kind {
                crate::domain::Kind::Rolling(length) => ApplyKind::Rolling(length, key.is_durable()),
                // Nothing is charged: no total is newer than version 0.
                _ => ApplyKind::Total(0, 0),
            },
            place: counter.place(key.kind, handle.reserved_at),
            reserved: counter.amount,
            actual: 0,
            before: 0,
        });
        Ok(held.collect())
    }

    fn note_refusal(&self, growth: &Growth, extension: &Extension, refusal: &Error) {
        let id = growth.handle.organization;
        let request = Request {
            id: extension.id,
            subject: growth.subject.clone(),
            amounts: growth.whole.clone(),
            lease: extension.lease,
            context: extension.context.clone(),
            limits: Vec::new(),
            across: Vec::new(),
        };
        self.refusals.note(&self.entitlements.organization(&id).refusals, &request, refusal, self.now());
    }
}

impl Growth {
    fn of(record: Record, amounts: &Amounts) -> Result<Self> {
        let handle = Handle::decode(&record.handle())?;
        let subject = Subject { organization: handle.organization, values: handle.values[1..].to_vec() };
        if let Some((unit, _)) = amounts.iter().find(|(unit, amount)| *amount < handle.amounts.get(unit).unwrap_or(0)) {
            let message = format!("it holds more of {unit} already; what is not used comes back with the commit");
            return Err(Error::Invalid("amounts", message));
        }
        let whole = handle.amounts.with(amounts).map_err(|error| Error::Invalid("amounts", error.to_string()))?;
        let more = whole.beyond(&handle.amounts);
        Ok(Self { record, handle, subject, whole, more })
    }

    fn draft(&self, demand: &Demand<'_>, taken: &Taken) -> Draft {
        let draft = Draft::new(self.handle.reservation, &self.subject, &self.whole, demand);
        let mut shared: Vec<HandleShared> = self.handle.shared.clone();
        shared.push(taken.handle());
        draft.with_shared(&shared)
    }
}
