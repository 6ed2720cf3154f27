//! A provider's key in the hands of one call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::Broker;
use super::call::ModelCall;
use super::health::Health;
use crate::domain::keys::{Exhausted, KeyOutcome, Picked, Wanted, room_in};
use crate::provider::Provider;

/// How soon those who wait look again while one call tries a key that has rested.
pub(crate) const PROBE_LOOK: Duration = Duration::from_millis(20);

/// A key in use; put back when it is dropped without a report.
pub(crate) struct KeyUse {
    provider: Arc<Provider>,
    model: Arc<str>,
    index: usize,
    /// None once it is reported, and of a caller's own key, which is in no pool.
    picked: Option<Picked>,
    health: Health,
}

impl KeyUse {
    /// Which one it is of the provider's keys.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// A caller's own key: of how it fares nobody keeps count.
    pub(crate) fn own(provider: &Arc<Provider>, health: &Health) -> Self {
        let (provider, health) = (Arc::clone(provider), health.clone());
        Self { provider, model: "".into(), index: 0, picked: None, health }
    }

    /// Says how the call ended for the key.
    pub(crate) fn report(&mut self, outcome: KeyOutcome) {
        let Some(picked) = self.picked.take() else { return };
        let keys = &self.provider.keys;
        let news = keys.report(picked, &self.model, outcome, Instant::now());
        if !news.is_empty() {
            self.health.tell(&self.provider.name, keys.id(self.index), news);
        }
    }

    /// Takes note of what the provider says is left for the key.
    pub(crate) fn note_room(&self, headers: &HeaderMap, now: chrono::DateTime<chrono::Utc>) {
        if self.provider.keys.len() > 1
            && let Some((left, lasts)) = room_in(headers, now)
        {
            self.provider.keys.left(self.index, left, Instant::now() + lasts);
        }
    }

    /// Quota has no room for the key for so long.
    pub(crate) fn is_full(&self, wait: Duration) {
        self.provider.keys.full(self.index, Instant::now() + wait.min(Duration::from_secs(1)));
    }
}

impl KeyUse {
    /// The key of a request that was made before: nothing is learnt about it.
    pub(crate) fn resumed(call: &ModelCall, index: usize, health: Health) -> Self {
        Self {
            provider: Arc::clone(&call.provider),
            model: call.route.model.as_str().into(),
            index,
            picked: None,
            health,
        }
    }
}

impl Drop for KeyUse {
    fn drop(&mut self) {
        self.report(KeyOutcome::Unknown);
    }
}

impl Broker {
    /// Picks a key that is not among `out`. One that has rested is tried by one call alone, of all brokers.
    pub(crate) async fn pick_key(&self, call: &ModelCall, tried: &[usize], out: &[usize]) -> Result<KeyUse, Exhausted> {
        let (provider, model) = (&call.provider, &call.route.model);
        let worst = &call.worst.used.tokens;
        let wanted = Wanted { model, tokens: worst.input.saturating_add(worst.output), tried, out };
        loop {
            let picked = provider.keys.pick(wanted, Instant::now())?;
            let key = KeyUse {
                provider: Arc::clone(provider),
                model: model.as_str().into(),
                index: picked.index,
                picked: Some(picked),
                health: self.health.clone(),
            };
            if !picked.probe || self.health.may_try(&provider.name, provider.keys.id(picked.index), model).await {
                return Ok(key);
            }
            key.defer();
        }
    }
}

impl KeyUse {
    /// Another broker tries the key.
    fn defer(mut self) {
        if let Some(picked) = self.picked.take() {
            self.provider.keys.defer(picked, &self.model, Instant::now() + 5 * PROBE_LOOK);
        }
    }
}
