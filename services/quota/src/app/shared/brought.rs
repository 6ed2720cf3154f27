//! Limits across tenants that reservations bring with them: those that keys of providers have of their own.
//!
//! Nobody configures them here. Who makes reservations says with each what its key may do, so that a key that has just been added,
//! or has another limit now, is held to that from its first call on. Counters are kept by what names the limit and by the key,
//! whatever amount it comes with; the last amount holds.

use std::sync::Arc;

use weir_types::MAX_AMOUNT;

use super::seats::Seats;
use super::{Account, Known, Shared};
use crate::domain::shared::{AccountKey, SharedScope};
use crate::domain::{CounterKey, Handle, Kind, Limit, OnFailure, PlanLimit, Scope, Subject, Window};
use crate::error::{Error, Result};

/// More keys than any deployment has.
const MOST: usize = 10_000;

impl Shared {
    /// The limits that a reservation brings, as they hold from now on.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the subject has no key; a database that does not answer.
    pub(in crate::app) async fn bring(&self, subject: &Subject, limits: &[Limit]) -> Result<Vec<Arc<Known>>> {
        if limits.is_empty() {
            return Ok(Vec::new());
        }
        let Some(value) = subject.label(SharedScope::ProviderKey.name()) else {
            return Err(Error::Invalid("limits", "count by a label that the subject lacks".to_owned()));
        };
        let keys: Vec<CounterKey> = limits.iter().map(CounterKey::from).collect();
        let ids = self.dictionary.numbers(&keys).await?;
        let accounts = ids.into_iter().map(|limit| AccountKey { limit, value: value.into() });
        accounts.zip(limits).map(|(account, limit)| self.know(account, limit)).collect()
    }

    /// The limits that a reservation has brought, as its handle has them.
    ///
    /// # Errors
    /// A database that does not answer.
    pub(in crate::app) async fn brought_by(&self, handle: &Handle) -> Result<Vec<Arc<Known>>> {
        let configured = self.limits().await?;
        let mut brought = Vec::new();
        for (_, counter) in handle.across().filter(|(_, counter)| counter.brought) {
            if !configured.iter().any(|known| known.limit.id == counter.account.limit) {
                brought.extend(self.known_of(&counter.account, counter.cap).await?);
            }
        }
        Ok(brought)
    }

    fn know(&self, account: AccountKey, limit: &Limit) -> Result<Arc<Known>> {
        let mut brought = self.brought.lock();
        if let Some(known) = brought.get(&account).filter(|known| known.limit.limit == *limit) {
            return Ok(Arc::clone(known));
        }
        if brought.len() >= MOST && !brought.contains_key(&account) {
            return Err(Error::Invalid("limits", format!("more than {MOST} keys have limits of their own")));
        }
        let known = Known {
            limit: PlanLimit::new(account.limit, limit.clone(), self.tuning),
            scope: SharedScope::ProviderKey,
            value: account.value.to_string(),
            brought: true,
        };
        let known = Arc::new(known);
        brought.insert(account, Arc::clone(&known));
        Ok(known)
    }

    /// The limit of an account that a handle names; none if it was configured once and is not any more.
    async fn known_of(&self, account: &AccountKey, cap: i64) -> Result<Option<Arc<Known>>> {
        if let Some(known) = self.limits().await?.iter().find(|known| known.limit.id == account.limit) {
            return Ok(Some(Arc::clone(known)));
        }
        if let Some(known) = self.brought.lock().get(account) {
            return Ok(Some(Arc::clone(known)));
        }
        let key = self.dictionary.keys(&[account.limit]).await?.remove(0);
        limit(&key, cap).map(|limit| self.know(account.clone(), &limit)).transpose()
    }

    pub(super) async fn known_account(&self, key: &AccountKey) -> Result<Option<Arc<Account>>> {
        let known = self.known_of(key, MAX_AMOUNT).await?;
        let known = known.filter(|known| !known.limit.limit.unit.is_concurrent());
        Ok(known.map(|known| self.account(key.clone(), &known)))
    }

    pub(super) async fn known_seats(&self, key: &AccountKey) -> Result<Option<Arc<Seats>>> {
        let known = self.known_of(key, MAX_AMOUNT).await?;
        let known = known.filter(|known| known.limit.limit.unit.is_concurrent());
        Ok(known.map(|known| self.seats(key.clone(), &known)))
    }
}

/// A limit as a reservation brings it; none of a kind that none is brought of.
fn limit(key: &CounterKey, cap: i64) -> Option<Limit> {
    let window = match (&key.scope, key.kind) {
        (Scope::Shared(SharedScope::ProviderKey), Kind::Rolling(length)) => Window::Rolling(length),
        (Scope::Shared(SharedScope::ProviderKey), Kind::Concurrent) => Window::Concurrent,
        _ => return None,
    };
    Some(Limit {
        name: key.name.clone(),
        scope: key.scope.clone(),
        unit: key.unit.clone(),
        cap,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    })
}
