//! An organisation's limits, prepared for the hot path once per version.

use std::sync::Arc;

use super::last_period::LastPeriod;
use super::period::FOREVER;
use super::{Alarm, CounterKey, Kind, Limit, LimitId, Millis, OnFailure, Period, Scope};

/// How finely rolling windows count.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Rolling limits up to this cap keep one entry per reservation and are exact to the millisecond.
    pub exact_up_to: i64,
    /// The others count in this many buckets.
    pub buckets: Millis,
}

/// The limits of one organisation at one version.
#[derive(Debug)]
pub struct Plan {
    /// Its name, without `plans/`; empty if nobody knows it.
    pub name: String,
    /// The version of the entitlements that it was made from.
    pub version: i64,
    /// By scope: the organisation's first.
    pub scopes: Vec<Arc<PlanScope>>,
}

/// The limits that count by one scope; their counters stand together in the store.
#[derive(Debug)]
pub struct PlanScope {
    /// By what they count.
    pub scope: Scope,
    /// Whether a reservation has brought its limits, which are not the plan's.
    pub brought: bool,
    /// A digest of the counters and their order. What was stored under another one is laid out anew.
    pub layout: u64,
    /// Whether any of the counters lives in Postgres, too.
    pub durable: bool,
    /// Whether a counter never resets.
    pub lifetime: bool,
    /// The longest rolling window, or 0.
    pub rolling: Millis,
    /// The limits with a window.
    pub windows: Vec<PlanLimit>,
    /// The limits on what is under way.
    pub concurrent: Vec<PlanLimit>,
}

/// A limit and what the store needs to know of it.
#[derive(Debug)]
pub struct PlanLimit {
    /// Its number.
    pub id: LimitId,
    /// What it says.
    pub limit: Limit,
    /// Whether its committed totals live in Postgres.
    pub durable: bool,
    /// Of a rolling window: the width of its buckets.
    pub grain: Millis,
    /// When it warns.
    pub alarm: Alarm,
    period: LastPeriod,
}

impl PlanLimit {
    /// Prepares a limit whose number is known.
    #[must_use]
    pub fn new(id: LimitId, limit: Limit, tuning: Tuning) -> Self {
        let grain = match limit.window.kind() {
            Kind::Rolling(length) if limit.cap > tuning.exact_up_to => (length / tuning.buckets).max(1),
            _ => 1,
        };
        let period = LastPeriod::default();
        let alarm = Alarm::new(&limit);
        Self { id, durable: CounterKey::from(&limit).is_durable(), grain, alarm, limit, period }
    }

    /// The period that an instant is in; [`FOREVER`] for windows that have no fixed ones.
    #[must_use]
    pub fn period(&self, instant: Millis) -> Period {
        if self.limit.window.kind().is_rolling() {
            return FOREVER;
        }
        self.period.get(instant, || self.limit.window.period(instant).unwrap_or(FOREVER))
    }

    /// What it does while the fast store does not answer. Money refuses, whatever the plan says.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        if self.limit.unit.is_money() { OnFailure::Closed } else { self.limit.on_failure }
    }
}

impl Plan {
    /// Prepares limits whose numbers are known.
    #[must_use]
    pub fn new(version: i64, limits: impl IntoIterator<Item = (LimitId, Limit)>, tuning: Tuning) -> Self {
        let mut scopes: Vec<PlanScope> = Vec::new();
        for (id, limit) in limits {
            let place = match scopes.iter().position(|scope| scope.scope == limit.scope) {
                Some(place) => place,
                None => {
                    scopes.push(PlanScope::new(limit.scope.clone()));
                    scopes.len() - 1
                }
            };
            let limit = PlanLimit::new(id, limit, tuning);
            let scope = &mut scopes[place];
            if limit.limit.window.kind() == Kind::Concurrent {
                scope.concurrent.push(limit);
            } else {
                scope.windows.push(limit);
            }
        }
        scopes.sort_by(|a, b| a.scope.cmp(&b.scope));
        scopes.iter_mut().for_each(PlanScope::seal);
        Self { name: String::new(), version, scopes: scopes.into_iter().map(Arc::new).collect() }
    }

    /// The same with limits that a reservation has brought, which count by scopes that the plan doesn't count by.
    #[must_use]
    pub fn beside(&self, brought: impl IntoIterator<Item = (LimitId, Limit)>, tuning: Tuning) -> Self {
        let brought = Self::new(self.version, brought, tuning).scopes.into_iter().filter_map(Arc::into_inner);
        let brought = brought.map(|scope| Arc::new(PlanScope { brought: true, ..scope }));
        let mut scopes: Vec<_> = self.scopes.iter().cloned().chain(brought).collect();
        scopes.sort_by(|a, b| a.scope.cmp(&b.scope));
        Self { name: self.name.clone(), version: self.version, scopes }
    }

    /// Whether a limit of it counts by this scope.
    #[must_use]
    pub fn counts_by(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|of_plan| of_plan.scope == *scope)
    }

    /// The same under a name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }
}

impl PlanScope {
    fn new(scope: Scope) -> Self {
        let (windows, concurrent) = (Vec::new(), Vec::new());
        Self { scope, brought: false, layout: 0, durable: false, lifetime: false, rolling: 0, windows, concurrent }
    }

    fn seal(&mut self) {
        // The order of a plan file is of no meaning, so it must not change the layout.
        self.windows.sort_by_key(|limit| limit.id);
        self.layout = layout(self.windows.iter().map(|limit| limit.id));
        self.durable = self.windows.iter().any(|limit| limit.durable);
        self.lifetime = self.windows.iter().any(|limit| limit.limit.window.kind() == Kind::Lifetime);
        self.rolling = self.windows.iter().map(|limit| rolling_length(&limit.limit)).max().unwrap_or(0);
    }
}

fn rolling_length(limit: &Limit) -> Millis {
    match limit.window.kind() {
        Kind::Rolling(length) => length,
        _ => 0,
    }
}

/// FNV-1a, cut to what a double holds exactly.
fn layout(ids: impl Iterator<Item = LimitId>) -> u64 {
    let digest = ids
        .flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    digest & ((1 << 52) - 1)
}
