//! Check and GetBalance: what the counters say, without changing them.

use super::Quota;
use super::epochs::Epoch;
use super::reserve::ATTEMPTS;
use super::shared::{Asks, SharedState};
use crate::domain::{Amounts, Demand, LimitState, Millis, Part, Plan, Subject, SubjectState, evaluate};
use crate::error::{Error, Result};
use crate::storage::store::Failure;
use std::sync::Arc;

/// The limits of a subject.
#[derive(Debug)]
pub struct Balance {
    /// Each with what is used and held.
    pub limits: Vec<LimitState>,
    /// At this time, by the fast store's clock.
    pub at: Millis,
}

impl Quota {
    /// Would these amounts be admitted now?
    ///
    /// # Errors
    /// When the limits or the counters are not known.
    pub async fn check(&self, subject: &Subject, amounts: &Amounts) -> Result<Balance> {
        let plan = self.plan_of(subject).await?;
        let asks = self.shared.asks(&plan, subject, amounts, &[]).await?;
        self.read(subject, true, &asks, |now| Demand::new(&plan, subject, amounts, now)).await
    }

    /// Every limit of a subject.
    ///
    /// # Errors
    /// When the limits or the counters are not known.
    pub async fn balance(&self, subject: &Subject) -> Result<Balance> {
        let plan = self.plan_of(subject).await?;
        let asks = self.shared.asks_for_nothing(&plan, subject).await?;
        self.read(subject, false, &asks, |now| Demand::nothing(&plan, subject, now)).await
    }

    pub(super) async fn plan_of(&self, subject: &Subject) -> Result<Arc<Plan>> {
        let organization = self.entitlements.organization(&subject.organization);
        self.entitlements.plan(&subject.organization, &organization).await
    }

    /// `decides`: whether the answer is taken for Reserve's, and so closed when that is.
    pub(super) async fn read<'a>(
        &self,
        subject: &Subject,
        decides: bool,
        asks: &Asks,
        demand: impl Fn(Millis) -> Demand<'a>,
    ) -> Result<Balance> {
        let id = &subject.organization;
        let mut now = self.now();
        for _ in 0..ATTEMPTS {
            let epoch = self.epochs.current().await?;
            if decides
                && (demand(now).is_durable() || asks.is_durable())
                && let Some(left) = epoch.closed_for()
            {
                return Err(Error::Rebuilding(left));
            }
            let reading = match self.store.read(&epoch.store, id, &demand(now)).await {
                Ok(reading) => reading,
                Err(Failure::OtherGeneration) => {
                    Box::pin(self.epochs.reload()).await?;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            now = reading.at;
            // What has begun stays begun, as for Reserve, when the store's clock went back.
            let mut at = now;
            while let Some(start) = later_period(&demand(at), &reading.states) {
                at = start;
            }
            let demand = demand(at);
            if demand.parts.iter().zip(&reading.states).all(|(part, state)| is_warm(part, state.as_ref(), &epoch)) {
                let mut limits = evaluate(&demand, &reading.states, &reading.live, epoch.number(), now);
                self.shared.read(asks).await?;
                limits.extend(self.shared.states(asks, SharedState::Asked, &[]));
                return Ok(Balance { limits, at: now });
            }
            self.warm(id, &epoch, &demand).await?;
        }
        Err(Error::Unsettled("too many attempts"))
    }
}

/// The latest period that a counter is in, if that begins after the one that is asked about.
fn later_period(demand: &Demand<'_>, states: &[Option<SubjectState>]) -> Option<Millis> {
    let counters = demand.parts.iter().zip(states).flat_map(|(part, state)| {
        let touched = part.scope.windows.iter().zip(&part.touches);
        touched.filter_map(move |(limit, touch)| Some((limit, (*touch)?, state.as_ref()?.entry(limit.id)?)))
    });
    let later = counters.filter(|(limit, touch, entry)| {
        entry.queue.is_none() && entry.period > touch.period.start && limit.period(entry.period).start == entry.period
    });
    later.map(|(_, _, entry)| entry.period).max()
}

/// Whether the counters can be taken at their word. A period that the store has not seen begin is read as empty, as Reserve does.
fn is_warm(part: &Part<'_>, state: Option<&SubjectState>, epoch: &Epoch) -> bool {
    match state {
        Some(state) => state.layout == part.scope.layout && (state.generation == epoch.number() || !part.scope.durable),
        None => !part.scope.durable,
    }
}
