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
    picked: Picked,
    health: Health,
    reported: bool,
}

impl KeyUse {
    /// Which one it is of the provider's keys.
    pub(crate) fn index(&self) -> usize {
        self.picked.index
    }

    /// Says how the call ended for the key.
    pub(crate) fn report(&mut self, outcome: KeyOutcome) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let keys = &self.provider.keys;
        let news = keys.report(self.picked, &self.model, outcome, Instant::now());
        if !news.is_empty() {
            self.health.tell(&self.provider.name, keys.id(self.picked.index), news);
        }
    }

    /// Takes note of what the provider says is left for the key.
    pub(crate) fn note_room(&self, headers: &HeaderMap, now: chrono::DateTime<chrono::Utc>) {
        if self.provider.keys.len() > 1
            && let Some((left, lasts)) = room_in(headers, now)
        {
            self.provider.keys.left(self.picked.index, left, Instant::now() + lasts);
        }
    }

    /// Quota has no room for the key for so long.
    pub(crate) fn is_full(&self, wait: Duration) {
        self.provider.keys.full(self.picked.index, Instant::now() + wait.min(Duration::from_secs(1)));
    }
}

impl KeyUse {
    /// The key of a request that was made before: nothing is learnt about it.
    pub(crate) fn resumed(call: &ModelCall, index: usize, health: Health) -> Self {
        Self {
            provider: Arc::clone(&call.provider),
            model: call.route.model.as_str().into(),
            picked: Picked { index, probe: false },
            health,
            reported: true,
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
                picked,
                health: self.health.clone(),
                reported: false,
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
        self.reported = true;
        self.provider.keys.defer(self.picked, &self.model, Instant::now() + 5 * PROBE_LOOK);
    }
}
