//! What counters say about a demand: the same decision as the reserve script's, in words.

use std::sync::Arc;
use std::time::Duration;

use super::{Demand, Entry, Millis, PlanLimit, SubjectState, Touch};

/// One limit at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// The limit's name.
    pub limit: Arc<str>,
    /// Its unit.
    pub unit: Arc<str>,
    /// By what it counts.
    pub scope: Arc<str>,
    /// The most there may be.
    pub cap: i64,
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
    /// When all of it is free again, or the window ends.
    pub reset_after: Option<Duration>,
    /// How much was asked for.
    pub requested: i64,
    /// On a refusal: when it could fit; none if waiting alone can't help.
    pub retry_after: Option<Duration>,
    /// Whether it refuses.
    pub refuses: bool,
    /// Whether it limits money.
    pub money: bool,
}

/// Concurrency has no window: what ends next is anybody's guess.
const CONCURRENT_RETRY: Duration = Duration::from_secs(1);

impl LimitState {
    pub(crate) fn new(limit: &PlanLimit, used: i64, held: i64, requested: i64) -> Self {
        Self {
            limit: limit.limit.name.as_str().into(),
            unit: limit.limit.unit.as_str().into(),
            scope: limit.limit.scope.name().into(),
            cap: limit.limit.cap,
            used,
            held,
            reset_after: None,
            requested,
            retry_after: None,
            refuses: refuses(limit.limit.cap, used, requested),
            money: limit.limit.unit.is_money(),
        }
    }

    /// A limit whose window was in this state.
    pub(crate) fn window(
        limit: &PlanLimit,
        touch: Touch,
        entry: Option<&Entry>,
        generation: u64,
        state: u64,
        now: Millis,
    ) -> Self {
        // What was held in a former generation counts again when it is announced again.
        let held = entry.map_or(0, |entry| if state == generation { entry.held } else { 0 });
        let Some(length) = limit.rolling() else {
            let current = entry.filter(|entry| entry.period == touch.period.start);
            let (spent, held) = current.map_or((0, 0), |entry| (entry.spent, held));
            let mut this = Self::new(limit, spent.saturating_add(held), held, touch.amount);
            if touch.period != super::period::FOREVER {
                this.reset_after = Some(until(now, touch.period.end));
            }
            if this.refuses && touch.amount <= this.cap {
                this.retry_after = this.reset_after;
            }
            return this;
        };
        let queue = entry.and_then(|entry| entry.queue.as_deref()).unwrap_or_default();
        let live = || queue.iter().filter(|(end, _)| end + length > now);
        let used: i64 = live().map(|(_, amount)| amount).sum();
        let mut this = Self::new(limit, used, held.min(used), touch.amount);
        this.reset_after = live().next_back().map(|(end, _)| until(now, end + length));
        if this.refuses && touch.amount <= this.cap {
            let mut left = used;
            let fits = live().find(|(_, amount)| {
                left -= amount;
                touch.amount <= this.cap - left
            });
            this.retry_after = fits.map(|(end, _)| until(now, end + length));
        }
        this
    }
}

/// A request for nothing is never refused, even above a cap that was lowered.
const fn refuses(cap: i64, used: i64, requested: i64) -> bool {
    requested > 0 && requested > cap.saturating_sub(used)
}

/// From now to an instant, rounded up to a millisecond that is safely after it.
pub(crate) fn until(now: Millis, then: Millis) -> Duration {
    Duration::from_millis(u64::try_from(then.saturating_sub(now)).unwrap_or(0))
}

/// The states of all limits that a demand touches, windows before concurrency.
///
/// `states` are the stored counters of each part (none: nothing counted yet), `live` the calls under way for each concurrency limit.
#[must_use]
pub fn evaluate(
    demand: &Demand<'_>,
    states: &[Option<SubjectState>],
    live: &[i64],
    generation: u64,
    now: Millis,
) -> Vec<LimitState> {
    let mut answer = Vec::new();
    for (part, state) in demand.parts.iter().zip(states) {
        for (limit, touch) in part.scope.windows.iter().zip(&part.touches) {
            let Some(touch) = *touch else { continue };
            let entry = state.as_ref().and_then(|state| state.entry(limit.id));
            let of = state.as_ref().map_or(0, |state| state.generation);
            answer.push(LimitState::window(limit, touch, entry, generation, of, now));
        }
    }
    for ((_, limit), used) in demand.concurrent().zip(live) {
        let mut this = LimitState::new(limit, *used, *used, 1);
        this.retry_after = (this.refuses && this.cap > 0).then_some(CONCURRENT_RETRY);
        answer.push(this);
    }
    answer
}
