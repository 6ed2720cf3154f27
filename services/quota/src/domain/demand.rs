//! What one request asks of one plan.

use super::period::FOREVER;
use smallvec::SmallVec;

use super::{Amounts, Kind, Millis, Period, Plan, PlanLimit, PlanScope, Subject, Value};

/// The counters that a request touches.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// By scope, in the plan's order; only scopes that the request has.
    pub parts: Vec<Part<'a>>,
    /// The instant that decides on the periods.
    pub at: Millis,
}

/// The counters of one scope.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The limits.
    pub scope: &'a PlanScope,
    /// Whose counters.
    pub value: &'a Value,
    /// For each of the scope's windows, in its order; none where the request asks nothing of it.
    pub touches: Touches,
    /// Whether the request counts as under way.
    pub concurrent: bool,
}

/// What is asked of the windows of a scope; few scopes have more than four.
pub type Touches = SmallVec<[Option<Touch>; 4]>;

/// What is asked of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// How much.
    pub amount: i64,
    /// In which period; of a rolling window [`FOREVER`](super::period::FOREVER), which the store does not look at.
    pub period: Period,
}

impl<'a> Demand<'a> {
    /// What `amounts` ask of the plan's limits at an instant. A limit whose scope the subject lacks, or whose unit is not among
    /// the amounts, is not touched.
    #[must_use]
    pub fn new(plan: &'a Plan, subject: &'a Subject, amounts: &Amounts, now: Millis) -> Self {
        let parts = plan.scopes.iter().filter_map(|scope| {
            let value = subject.value(&scope.scope)?;
            let touches: Touches = scope
                .windows
                .iter()
                .map(|limit| amounts.get(&limit.limit.unit).map(|amount| Touch { amount, period: period(limit, now) }))
                .collect();
            let concurrent =
                !scope.concurrent.is_empty() && amounts.iter().any(|(unit, n)| unit.is_concurrent() && n > 0);
            (concurrent || touches.iter().any(Option::is_some)).then_some(Part { scope, value, touches, concurrent })
        });
        Self { parts: parts.collect(), at: now }
    }

    /// Every limit of the subject, with nothing asked.
    #[must_use]
    pub fn nothing(plan: &'a Plan, subject: &'a Subject, now: Millis) -> Self {
        let parts = plan.scopes.iter().filter_map(|scope| {
            let value = subject.value(&scope.scope)?;
            let touches =
                scope.windows.iter().map(|limit| Some(Touch { amount: 0, period: period(limit, now) })).collect();
            Some(Part { scope, value, touches, concurrent: !scope.concurrent.is_empty() })
        });
        Self { parts: parts.collect(), at: now }
    }

    /// The windows that are touched, in the order in which stores answer.
    pub fn windows(&self) -> impl Iterator<Item = (&Part<'a>, &'a PlanLimit, Touch)> {
        self.parts.iter().flat_map(|part| {
            let touched = part.scope.windows.iter().zip(&part.touches);
            touched.filter_map(move |(limit, touch)| touch.map(|touch| (part, limit, touch)))
        })
    }

    /// The concurrency limits that are touched, in the order in which stores answer: after all windows.
    pub fn concurrent(&self) -> impl Iterator<Item = (&Part<'a>, &'a PlanLimit)> {
        let parts = self.parts.iter().filter(|part| part.concurrent);
        parts.flat_map(|part| part.scope.concurrent.iter().map(move |limit| (part, limit)))
    }

    fn limits(&self) -> impl Iterator<Item = &'a PlanLimit> {
        self.windows().map(|(_, limit, _)| limit).chain(self.concurrent().map(|(_, limit)| limit))
    }

    /// Whether it touches a counter whose truth is in Postgres.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.limits().any(|limit| limit.durable)
    }

    /// Every counter that is touched, in the order in which stores answer.
    pub fn counters(&self) -> impl Iterator<Item = (&Part<'a>, &'a PlanLimit, Touch)> {
        let concurrent = self.concurrent().map(|(part, limit)| (part, limit, Touch { amount: 1, period: FOREVER }));
        self.windows().chain(concurrent)
    }
}

fn period(limit: &PlanLimit, now: Millis) -> Period {
    limit.period(now)
}

impl PlanLimit {
    /// The length of a rolling window.
    #[must_use]
    pub fn rolling(&self) -> Option<Millis> {
        match self.limit.window.kind() {
            Kind::Rolling(length) => Some(length),
            _ => None,
        }
    }
}

/// The end of the bucket that an instant is in: what leaves a rolling window a window's length later.
#[must_use]
pub const fn bucket_end(instant: Millis, grain: Millis) -> Millis {
    // Widths come back in handles, which anybody may have written.
    let grain = if grain < 1 { 1 } else { grain };
    (instant.div_euclid(grain) + 1).saturating_mul(grain)
}
