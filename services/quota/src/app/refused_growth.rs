//! What a growth that does not fit is told: every limit that refuses it, as they would be without what it holds itself.

use super::Quota;
use super::epochs::Epoch;
use super::grow::Growth;
use super::shared::{Asks, SharedState};
use crate::domain::demand::bucket_end;
use crate::domain::{Demand, Handle, LimitState, Millis, Part, PlanLimit, Touch, evaluate};
use crate::error::{Error, Result};
use crate::storage::store::{ApplyCounter, ApplyKind, Reading};

impl Quota {
    /// Limits across tenants refuse: which of the tenant's own would have, too, is looked up. None if the reservation is not what
    /// it was thought to be.
    pub(super) async fn growth_refused_across(
        &self,
        growth: &Growth,
        demand: &Demand<'_>,
        held: &[ApplyCounter],
        (asks, short): (&Asks, &[usize]),
        epoch: &Epoch,
    ) -> Result<Option<Error>> {
        let handle = &growth.handle;
        match self.store.find(&handle.organization, &handle.reservation).await? {
            Some(record) if record.reserved_at == growth.record.reserved_at => {}
            // A growth that was not answered was carried out, say.
            _ => return Ok(None),
        }
        let across = self.shared.states(asks, SharedState::Refused, short);
        // Counters that must be loaded first refuse nothing here.
        let own = match self.store.read(&epoch.store, &handle.organization, demand).await {
            Ok(mut reading) => {
                give_back(&mut reading, held, handle, demand, epoch.number());
                self.limits_of_refused_growth(growth, demand, &reading, epoch)
            }
            Err(_) => Vec::new(),
        };
        Ok(Some(Error::Refused(own.into_iter().chain(across).collect())))
    }

    /// The tenant's limits as others use them; alerts are told what is used in all.
    pub(super) fn limits_of_refused_growth(
        &self,
        growth: &Growth,
        demand: &Demand<'_>,
        reading: &Reading,
        epoch: &Epoch,
    ) -> Vec<LimitState> {
        let limits = evaluate(demand, &reading.states, &reading.live, epoch.number(), reading.at);
        let counters = demand.counters().zip(&limits);
        let with_its_own = counters.map(|((part, limit, touch), state)| {
            let own = holds(&growth.handle, part, limit, touch, reading.at);
            LimitState { used: state.used + own, held: state.held + own, ..state.clone() }
        });
        let with_its_own: Vec<LimitState> = with_its_own.collect();
        self.alerts.read(&growth.handle.organization, demand, &with_its_own, reading.at);
        limits
    }
}

/// What a reservation holds of a counter that is as it is now.
fn holds(handle: &Handle, part: &Part<'_>, limit: &PlanLimit, touch: Touch, now: Millis) -> i64 {
    if handle.concurrent.iter().any(|one| one.limit == limit.id && handle.values[one.value] == *part.value) {
        return 1;
    }
    let mut counters = handle.counters.iter();
    let counter = counters.find(|one| one.limit == limit.id && handle.values[one.value] == *part.value);
    let is_inside = |at: Millis| match limit.rolling() {
        Some(length) => bucket_end(handle.reserved_at, at) + length > now,
        None => at == touch.period.start,
    };
    counter.filter(|counter| is_inside(counter.at)).map_or(0, |counter| counter.amount)
}

/// The counters without what a reservation holds.
fn give_back(reading: &mut Reading, held: &[ApplyCounter], handle: &Handle, demand: &Demand<'_>, generation: u64) {
    for counter in held {
        let part = demand.parts.iter().position(|part| *part.value == counter.value);
        let state = part.and_then(|part| reading.states[part].as_mut()).filter(|state| state.generation == generation);
        let Some(state) = state else { continue };
        let length = if let ApplyKind::Rolling(length, _) = counter.kind { Some(length) } else { None };
        for entry in state.entries.iter_mut().filter(|entry| entry.limit == counter.limit) {
            entry.give_back(counter.place, counter.reserved, length, reading.at);
        }
    }
    for ((part, limit), live) in demand.concurrent().zip(&mut reading.live) {
        // Its lease was lengthened just now.
        if handle.concurrent.iter().any(|one| one.limit == limit.id && handle.values[one.value] == *part.value) {
            *live = (*live - 1).max(0);
        }
    }
}
