//! Reserve: all limits at once, or nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use super::entitlements::Organization;
use super::epochs::Epoch;
use super::local::Admitted;
use super::shared::{Asks, SharedState, Taken, Taker, Took};
use crate::domain::demand::bucket_end;
use crate::domain::evaluate::until;
use crate::domain::handle::Draft;
use crate::domain::period::FOREVER;
use crate::domain::{Amounts, Decided, Demand, Handle, Limit, LimitState, Millis, Plan, Subject, evaluate};
use crate::error::{Error, Result};
use crate::storage::store::{Admission, Failure, Reading, Record, Reserve};

/// A reservation to make.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: ReservationId,
    /// Whose limits apply.
    pub subject: Subject,
    /// What is asked for.
    pub amounts: Amounts,
    /// How long it may stay unsettled.
    pub lease: Duration,
    /// Kept for whoever takes it over.
    pub context: Bytes,
    /// Limits of its tenant that hold for it beside the plan's.
    pub limits: Vec<Limit>,
    /// Limits across tenants that hold for it beside those that are configured.
    pub across: Vec<Limit>,
}

impl Request {
    fn taker(&self) -> Taker {
        Taker { organization: self.subject.organization, reservation: self.id, growth: 0 }
    }
}

/// A reservation that was made.
#[derive(Debug)]
pub struct Reserved {
    /// What settles it.
    pub handle: Bytes,
    /// The limits that apply, after it.
    pub limits: Vec<LimitState>,
    /// The generation of the fast store.
    pub epoch: u64,
}

/// How often the counters may turn out to be elsewhere than thought before the caller is told to come back.
pub(super) const ATTEMPTS: usize = 8;
/// A tenant is put on the list of those that may have leases again after so long.
const REGISTER_EVERY: i64 = 600;

impl Quota {
    /// Reserves, or refuses and writes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] names the limits; the id may be in use; limits may be closed or unknown; there may be no room.
    pub async fn reserve(&self, request: Request) -> Result<Reserved> {
        let _place = self.gate.begin()?;
        let id = request.subject.organization;
        let organization = self.entitlements.organization(&id);
        let mut plan = self.entitlements.plan(&id, &organization).await?;
        if !request.limits.is_empty() {
            plan = Box::pin(self.with_own(&plan, &request.subject, &request.limits)).await?;
        }
        let result = match self.reserve_in(&request, &organization, &plan).await {
            Err(Error::Store(failure)) if failure.is_outage() => {
                Box::pin(self.reserve_without(&request, &plan, failure)).await
            }
            result => result,
        };
        if let Err(error) = &result {
            self.refusals.note(&organization.refusals, &request, error, self.now());
        }
        result
    }

    async fn reserve_in(&self, request: &Request, organization: &Organization, plan: &Plan) -> Result<Reserved> {
        let id = request.subject.organization;
        let mut now = self.now();
        let mut check_clock = true;
        let brought = self.shared.bring(&request.subject, &request.across).await?;
        let asks = self.shared.asks(plan, &request.subject, &request.amounts, &brought).await?;
        let mut taken: Option<(u64, Taken)> = None;
        for _ in 0..ATTEMPTS {
            let epoch = self.epochs.current().await?;
            self.register(&id, organization, &epoch).await?;
            let demand = Demand::new(plan, &request.subject, &request.amounts, now);
            if (demand.is_durable() || asks.is_durable())
                && let Some(left) = epoch.closed_for()
            {
                return Err(Error::Rebuilding(left));
            }
            if epoch.follows() && demand.is_durable() {
                Box::pin(self.recount(&id, organization, &epoch)).await?;
            }
            let mut draft = Draft::new(request.id, &request.subject, &request.amounts, &demand);
            if !asks.is_empty() {
                // A slice of another generation is void.
                taken = taken.filter(|(generation, _)| *generation == epoch.number());
                if taken.is_none() {
                    let took = self.shared.take(&asks, epoch.number(), request.taker(), request.lease);
                    match Box::pin(took).await? {
                        Took::All(all) => taken = Some((epoch.number(), all)),
                        Took::Moved => {
                            Box::pin(self.epochs.verify()).await?;
                            continue;
                        }
                        Took::Short(short) => {
                            let refused = self.refused_across(request, &demand, &draft, (&asks, &short), &epoch);
                            return Box::pin(refused).await;
                        }
                    }
                }
            }
            if let Some((_, taken)) = &mut taken {
                draft = draft.with_shared(&[taken.handle()]);
                taken.send();
            }
            let reserve = Reserve {
                id: request.id,
                organization: id,
                demand: &demand,
                draft: &draft,
                context: &request.context,
                lease: request.lease,
                check_clock,
            };
            let admission = self.store.reserve(&epoch.store, &reserve).await;
            if let Some((_, taken)) = &mut taken
                && !matches!(admission, Ok(Admission::Admitted { .. }))
                && !matches!(&admission, Err(failure) if failure.is_outage())
            {
                taken.returned();
            }
            match admission {
                Ok(Admission::Admitted { at, decision }) => {
                    self.metrics.admitted.increment(1);
                    self.alerts.admitted(&id, &demand, &decision, at);
                    if let Some((_, taken)) = taken {
                        taken.confirm(at);
                    }
                    let mut limits = admitted(&demand, &decision, at);
                    limits.extend(self.shared.states(&asks, SharedState::Admitted, &[]));
                    return Ok(Reserved { handle: draft.at(at, &decision), limits, epoch: epoch.number() });
                }
                Ok(Admission::Refused(reading)) => {
                    self.metrics.refused.increment(1);
                    let across = self.shared.states(&asks, SharedState::Refused, &[]);
                    let refusal = refused(&demand, &reading, &epoch, across);
                    if let Error::Refused(limits) = &refusal {
                        self.alerts.read(&id, &demand, limits, reading.at);
                    }
                    return Err(refusal);
                }
                Ok(Admission::Duplicate(record)) => {
                    if let Some((_, taken)) = taken {
                        taken.repeat();
                    }
                    // Boxed, as all that few requests come to: their futures are held by the thousand.
                    return Box::pin(self.repeated(&record, &id, &demand, &asks, &epoch)).await;
                }
                Ok(Admission::Reused) => {
                    return Err(Error::IdReused("the reservation exists with other amounts or another subject"));
                }
                Ok(Admission::Settled) => return Err(Error::IdReused("the reservation was settled before")),
                Ok(Admission::Cold) => {
                    self.metrics.cold.increment(1);
                    self.warm(&id, &epoch, &demand).await?;
                }
                Ok(Admission::OutsidePeriod(there)) => (now, check_clock) = (there, true),
                Ok(Admission::LaterPeriod(start)) => {
                    let behind = |limit: &crate::domain::PlanLimit| limit.period(start).start == start;
                    if demand.windows().any(|(_, limit, _)| behind(limit)) {
                        // The store's clock went back over the end of a period: what has begun stays begun.
                        (now, check_clock) = (start, false);
                    } else {
                        // The periods themselves have moved.
                        self.warm(&id, &epoch, &demand).await?;
                    }
                }
                Err(Failure::OtherGeneration) => drop(Box::pin(self.epochs.reload()).await?),
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// Limits across tenants refuse. Which of the tenant's own would have refused, too, is looked up: a refusal names them all. A
    /// repeated request is no new one, and so not refused.
    async fn refused_across(
        &self,
        request: &Request,
        demand: &Demand<'_>,
        draft: &Draft,
        (asks, short): (&Asks, &[usize]),
        epoch: &Epoch,
    ) -> Result<Reserved> {
        let id = &request.subject.organization;
        if let Some(record) = self.store.find(id, &request.id).await? {
            if draft.repeats(&record.body) {
                return self.repeated(&record, id, demand, asks, epoch).await;
            }
            return Err(Error::IdReused("the reservation exists with other amounts or another subject"));
        }
        self.metrics.refused.increment(1);
        let across = self.shared.states(asks, SharedState::Refused, short);
        // Counters that must be loaded first refuse nothing here.
        let mut limits = Vec::new();
        if let Ok(reading) = self.store.read(&epoch.store, id, demand).await {
            limits = evaluate(demand, &reading.states, &reading.live, epoch.number(), reading.at);
            self.alerts.read(id, demand, &limits, reading.at);
        }
        limits.extend(across);
        Err(Error::Refused(limits))
    }

    /// The same answer again: the handle of the first time, and the limits as they were then; as they are now if they have become
    /// others since.
    async fn repeated(
        &self,
        record: &Record,
        id: &OrganizationId,
        demand: &Demand<'_>,
        asks: &Asks,
        epoch: &Epoch,
    ) -> Result<Reserved> {
        self.metrics.repeated.increment(1);
        let handle = record.handle();
        let across = self.shared.states(asks, SharedState::Admitted, &[]);
        if let Some(mut limits) = decided(demand, &Handle::decode(&handle)?) {
            limits.extend(across);
            return Ok(Reserved { handle, limits, epoch: epoch.number() });
        }
        let reading = self.store.read(&epoch.store, id, demand).await?;
        let mut limits = evaluate(demand, &reading.states, &reading.live, epoch.number(), reading.at);
        limits.extend(across);
        Ok(Reserved { handle, limits, epoch: epoch.number() })
    }

    /// The store does not answer. Where every limit says so, or has room in this process, the request goes ahead: the handle
    /// settles it as any other, and the first extension after the outage makes it count.
    async fn reserve_without(&self, request: &Request, plan: &Plan, failure: Failure) -> Result<Reserved> {
        let now = self.now();
        let demand = Demand::new(plan, &request.subject, &request.amounts, now);
        let admitted = self.local.admit(&request.subject.organization, &demand, request.lease, now);
        if admitted == Admitted::No {
            return Err(failure.into());
        }
        let epoch = self.epochs.known().map_or(0, |epoch| epoch.number());
        let brought = self.shared.bring(&request.subject, &request.across).await?;
        let asks = self.shared.asks(plan, &request.subject, &request.amounts, &brought).await?;
        let Some(across) = self.shared.take_without_store(&asks, epoch, request.taker()) else {
            return Err(failure.into());
        };
        match admitted {
            Admitted::Local => self.metrics.local.increment(1),
            Admitted::Open | Admitted::No => self.metrics.without_store.increment(1),
        }
        let draft = Draft::new(request.id, &request.subject, &request.amounts, &demand).with_shared(&[across]);
        Ok(Reserved { handle: draft.at(now, &[]), limits: Vec::new(), epoch })
    }

    /// Puts the tenant on the list of those that may have leases, before it has one.
    pub(super) async fn register(&self, id: &OrganizationId, organization: &Organization, epoch: &Epoch) -> Result<()> {
        let (generation, at) = &organization.registered;
        let now = self.now() / 1_000;
        if generation.load(Ordering::Acquire) == epoch.number()
            && (0..REGISTER_EVERY).contains(&(now - at.load(Ordering::Acquire)))
        {
            return Ok(());
        }
        Box::pin(self.store.register(&[*id])).await?;
        at.store(now, Ordering::Release);
        generation.store(epoch.number(), Ordering::Release);
        Ok(())
    }
}

pub(super) fn refused(demand: &Demand<'_>, reading: &Reading, epoch: &Epoch, across: Vec<LimitState>) -> Error {
    let mut limits = evaluate(demand, &reading.states, &reading.live, epoch.number(), reading.at);
    if limits.iter().any(|limit| limit.refuses) {
        limits.extend(across);
        Error::Refused(limits)
    } else {
        Error::Bug(format!("the script refused what nothing refuses: {limits:?}"))
    }
}

/// The limits after a reservation, as its handle has them; none if it has not, or if other limits apply now.
pub(super) fn decided(demand: &Demand<'_>, handle: &Handle) -> Option<Vec<LimitState>> {
    let touched = demand.windows().map(|(_, limit, _)| (limit.id, limit.limit.cap));
    let touched = touched.chain(demand.concurrent().map(|(_, limit)| (limit.id, limit.limit.cap)));
    let held = handle.counters.iter().map(|counter| (counter.limit, counter.cap));
    let held = held.chain(handle.concurrent.iter().map(|one| (one.limit, one.cap)));
    let same = touched.map(|(limit, cap)| (limit, Some(cap))).eq(held);
    (same && !handle.decision.is_empty()).then(|| admitted(demand, &handle.decision, handle.reserved_at))
}

/// The limits after a reservation, from what the store answers.
pub(super) fn admitted(demand: &Demand<'_>, decision: &[Decided], at: Millis) -> Vec<LimitState> {
    let windows = demand.windows().map(|(_, limit, touch)| {
        let reset = match limit.rolling() {
            // Unless nothing was asked for, the newest bucket is this reservation's own.
            Some(length) => (touch.amount > 0).then(|| bucket_end(at, limit.grain) + length),
            None => (touch.period != FOREVER).then_some(touch.period.end),
        };
        (limit, touch.amount, reset)
    });
    let concurrent = demand.concurrent().map(|(_, limit)| (limit, 1, None));
    let limits = windows.chain(concurrent).zip(decision);
    let state = |((limit, requested, reset), decided): ((_, i64, Option<Millis>), &Decided)| LimitState {
        reset_after: reset.map(|reset| until(at, reset)),
        refuses: false,
        ..LimitState::new(limit, decided.used, decided.held, requested)
    };
    limits.map(state).collect()
}
