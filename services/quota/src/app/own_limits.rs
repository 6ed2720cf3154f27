//! Limits that a reservation brings with it, beside those of its tenant's plan.
//!
//! They are for what tenants limit themselves, such as a key of a provider that a user has brought: nobody's plan knows of it. Their
//! counters are like all others: kept by what names the limit and by the label's value, whatever cap a reservation comes with.

use std::sync::Arc;

use weir_types::MAX_AMOUNT;

use super::Quota;
use crate::domain::{CounterKey, Handle, Kind, Limit, LimitId, OnFailure, Plan, Scope, Subject, Window};
use crate::error::{Error, Result};

impl Quota {
    /// The plan with the limits that a request brings.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that does not count by a label of the subject, or whose label the plan counts by; a database that
    /// does not answer.
    pub(super) async fn with_own(&self, plan: &Plan, subject: &Subject, limits: &[Limit]) -> Result<Arc<Plan>> {
        for limit in limits {
            let fault = match &limit.scope {
                Scope::Label(name) if subject.label(name).is_none() => Some("counts by a label that the subject lacks"),
                scope @ Scope::Label(_) if plan.counts_by(scope) => Some("counts by a label that the plan counts by"),
                Scope::Label(_) => None,
                _ => Some("must count by a label"),
            };
            if let Some(fault) = fault {
                return Err(Error::Invalid("limits", format!("`{}` {fault}", limit.name)));
            }
        }
        let keys: Vec<CounterKey> = limits.iter().map(CounterKey::from).collect();
        let ids = self.dictionary.numbers(&keys).await?;
        Ok(Arc::new(plan.beside(ids.into_iter().zip(limits.iter().cloned()), self.config.windows.tuning())))
    }

    /// The plan with the limits that a reservation has brought, as its handle has them.
    ///
    /// # Errors
    /// A database that does not answer.
    pub(super) async fn with_held(&self, plan: Arc<Plan>, handle: &Handle) -> Result<Arc<Plan>> {
        let held: Vec<_> = handle.counters.iter().filter(|counter| counter.brought).collect();
        if held.is_empty() {
            return Ok(plan);
        }
        let ids: Vec<LimitId> = held.iter().map(|counter| counter.limit).collect();
        let keys = self.dictionary.keys(&ids).await?;
        // By whatever the plan counts now, its own limits hold.
        let held = held.iter().zip(&keys).filter(|(_, key)| !plan.counts_by(&key.scope));
        let limits: Vec<_> = held.filter_map(|(held, key)| Some((held.limit, limit(key, held.cap)?))).collect();
        Ok(if limits.is_empty() { plan } else { Arc::new(plan.beside(limits, self.config.windows.tuning())) })
    }
}

/// A limit as it was brought; none of a kind that none is brought of.
fn limit(key: &CounterKey, cap: Option<i64>) -> Option<Limit> {
    let window = match (&key.scope, key.kind) {
        (Scope::Label(_), Kind::Rolling(length)) => Window::Rolling(length),
        (Scope::Label(_), Kind::Calendar(unit)) => Window::Calendar(unit, chrono_tz::UTC),
        _ => return None,
    };
    Some(Limit {
        name: key.name.clone(),
        scope: key.scope.clone(),
        unit: key.unit.clone(),
        cap: cap.unwrap_or(MAX_AMOUNT),
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    })
}
