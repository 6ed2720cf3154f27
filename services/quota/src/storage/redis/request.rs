//! A reservation that is to be sent: what the reserve script needs to know, owned, so that it can wait for others.

use std::time::Duration;

use weir_types::OrganizationId;

use super::program::len;
use super::scripts::Scripts;
use super::{Script, concurrency_field, reservation_field};
use crate::domain::{Millis, Part};
use crate::storage::store::Reserve;

/// A reservation that is to be sent.
pub(super) struct Request {
    pub(super) organization: OrganizationId,
    pub(super) generation: u64,
    pub(super) script: Script,
    /// The field of the tenant's state.
    pub(super) id: [u8; 17],
    pub(super) tail: Vec<u8>,
    /// How much of the tail a repeated request repeats.
    pub(super) fingerprint: usize,
    pub(super) context: Vec<u8>,
    pub(super) lease: i64,
    pub(super) check_clock: bool,
    /// The subjects that it touches a window of.
    pub(super) subjects: Vec<Touched>,
    /// Of each concurrency limit that it counts in: its counter's field, and the cap.
    pub(super) concurrent: Vec<(Vec<u8>, i64)>,
}

/// What is touched of one subject.
pub(super) struct Touched {
    /// The field of the tenant's state.
    pub(super) field: Vec<u8>,
    /// What the script is told of the limits; the same for all requests of the same plan in the same periods.
    pub(super) plan: Vec<i64>,
    /// Places among the plan's limits, and how much is asked of each.
    pub(super) amounts: Vec<(usize, i64)>,
}

/// Numbers of a plan before its limits, and of each limit.
pub(super) const PLAN: usize = 5;
pub(super) const LIMIT: usize = 5;
/// The kinds of limits.
pub(super) const PERIOD: i64 = 1;
pub(super) const ROLLING: i64 = 2;

impl Request {
    pub(super) fn new(scripts: &Scripts, reserve: &Reserve<'_>) -> Self {
        let demand = reserve.demand;
        let touched = demand.parts.iter().filter(|part| touches_window(part));
        Self {
            organization: reserve.organization,
            generation: scripts.generation,
            script: scripts.reserve.clone(),
            id: reservation_field(&reserve.id),
            tail: reserve.draft.tail.clone(),
            fingerprint: reserve.draft.fingerprint,
            context: reserve.context.to_vec(),
            lease: millis(reserve.lease),
            check_clock: reserve.check_clock,
            subjects: touched.map(|part| Touched::new(part, demand.at)).collect(),
            concurrent: demand
                .concurrent()
                .map(|(part, limit)| (concurrency_field(limit.id, part.value), limit.limit.cap))
                .collect(),
        }
    }

    /// The amounts in the order of the cells: windows, then concurrency limits.
    pub(super) fn amounts(&self) -> impl Iterator<Item = i64> {
        let windows = self.subjects.iter().flat_map(|subject| subject.amounts.iter().map(|(_, amount)| *amount));
        windows.chain(self.concurrent.iter().map(|_| 1))
    }

    /// About how many bytes are sent of it, counting what Lua makes of each number.
    pub(super) fn weight(&self) -> usize {
        let subjects: usize =
            self.subjects.iter().map(|subject| 64 * (subject.plan.len() + subject.amounts.len())).sum();
        256 + self.tail.len() + self.context.len() + subjects + 128 * self.concurrent.len()
    }
}

/// Whether the state of the part's subject is looked at.
pub(super) fn touches_window(part: &Part<'_>) -> bool {
    part.touches.iter().any(Option::is_some)
}

impl Touched {
    fn new(part: &Part<'_>, now: Millis) -> Self {
        let scope = part.scope;
        let mut plan = Vec::with_capacity(PLAN + LIMIT * scope.windows.len());
        plan.extend([
            i64::try_from(scope.layout).unwrap_or(i64::MAX),
            i64::from(scope.durable),
            len(scope.windows.len()),
            sweep_after(part, now),
            scope.rolling,
        ]);
        for limit in &scope.windows {
            let (kind, first, second) = match limit.rolling() {
                Some(length) => (ROLLING, length, limit.grain),
                None => {
                    let period = limit.period(now);
                    (PERIOD, period.start, period.end)
                }
            };
            plan.extend([kind, i64::from(limit.id), limit.limit.cap, first, second]);
        }
        let amounts = part.touches.iter().enumerate();
        let amounts = amounts.filter_map(|(place, touch)| Some((place, touch.as_ref()?.amount))).collect();
        Self { field: part.value.field(), plan, amounts }
    }

    /// What the script is told of one limit.
    pub(super) fn limit(plan: &[i64], place: usize) -> &[i64] {
        &plan[PLAN + LIMIT * place..][..LIMIT]
    }

    /// How many limits the plan has.
    pub(super) fn limits(plan: &[i64]) -> usize {
        (plan.len() - PLAN) / LIMIT
    }
}

/// Counters are kept for so long after their period, for those who look at it late.
const GRACE: Millis = 3_600_000;

/// When nothing that is counted there matters any more; -1 if never. Rolling windows are the script's to add.
fn sweep_after(part: &Part<'_>, now: Millis) -> i64 {
    if part.scope.lifetime {
        return -1;
    }
    let periods = part.scope.windows.iter().filter(|limit| limit.rolling().is_none());
    periods.map(|limit| limit.period(now).end).max().map_or(0, |end| end.saturating_add(GRACE))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
