//! The keys of one provider: which one serves the next call, and which ones rest.
//!
//! A key is well or rests, as a whole (the provider refuses it) or with one model (its rate limit, its failures). What rested is
//! tried by one call alone before it serves all again. Of the keys that are well the one with the most room goes first.

mod health;
mod room;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use health::State;
pub(crate) use health::{Kind, News};
pub(crate) use room::{OwnLimits, room_in};

/// How a call with a key ended, as far as the key is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOutcome {
    /// The provider answered and had nothing against the key.
    Fine,
    /// 429: the key rests with this model for as long as the provider said, else the configured time.
    RateLimited(Option<Duration>),
    /// 401, 402: the key itself is refused, whatever the model.
    Refused,
    /// 403: the key may not use this model.
    Denied,
    /// 5xx, a broken connection or no answer.
    Failed,
    /// Nothing was learnt about the key.
    Unknown,
}

/// How long keys rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rests {
    /// After a 429 that does not say.
    pub(crate) rate_limited: Duration,
    /// After a refusal.
    pub(crate) refused: Duration,
    /// After the third failure in a row; doubles with each one after it.
    pub(crate) failed: Duration,
    /// The longest rest after failures.
    pub(crate) failed_most: Duration,
    /// How long a key that has rested is tried by one call alone.
    pub(crate) probe: Duration,
}

/// A key that was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) index: usize,
    /// It has rested, and this call alone tries it.
    pub(crate) probe: bool,
}

/// No key can be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// When the first of them can be tried again.
    pub(crate) retry_after: Duration,
    /// At least one rests because of a rate limit.
    pub(crate) rate_limited: bool,
    /// One is being tried, so there may be a key any moment.
    pub(crate) probing: bool,
}

/// What a call wants of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: &'a str,
    /// Tokens at most.
    pub(crate) tokens: i64,
    /// Keys that failed this call: only if there is no other.
    pub(crate) tried: &'a [usize],
    /// Keys that turned this call away: not again.
    pub(crate) out: &'a [usize],
}

/// One key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Its name and something of its secret that tells it from the one it replaces; not the secret.
    pub(crate) id: Arc<str>,
    pub(crate) limits: OwnLimits,
    state: Arc<Mutex<State>>,
}

impl Key {
    /// A key that nothing is known of.
    pub(crate) fn new(id: &str, limits: OwnLimits) -> Self {
        Self { id: id.into(), limits, state: Arc::default() }
    }
}

/// The keys of one provider by index.
#[derive(Debug)]
pub(crate) struct KeyPool {
    rests: Rests,
    keys: Vec<Key>,
    next: AtomicUsize,
}

impl KeyPool {
    /// These keys. What `before` knows of them is known to this pool, too, and the other way round.
    pub(crate) fn new(mut keys: Vec<Key>, rests: Rests, before: Option<&Self>) -> Self {
        for key in &mut keys {
            let known = before.and_then(|before| before.keys.iter().find(|known| known.id == key.id));
            if let Some(known) = known {
                key.state = Arc::clone(&known.state);
            }
        }
        Self { rests, keys, next: AtomicUsize::new(0) }
    }

    /// What the key at `index` is called.
    pub(crate) fn id(&self, index: usize) -> &Arc<str> {
        &self.keys[index].id
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Picks the key with the most room, of several the one with the fewest calls under way, of those in turns.
    pub(crate) fn pick(&self, wanted: Wanted<'_>, now: Instant) -> Result<Picked, Exhausted> {
        let count = self.keys.len();
        // Another thread may take the only try of a key that has rested: then there is one candidate less.
        for _ in 0..=count {
            let first = self.next.load(Ordering::Relaxed);
            let candidates = (0..count).map(|offset| (first + offset) % count.max(1)).filter_map(|index| {
                let key = &self.keys[index];
                let state = key.state.lock();
                if wanted.out.contains(&index) || !state.is_up(wanted.model, now) {
                    return None;
                }
                let room = state.room(&key.limits, now);
                let order = (wanted.tried.contains(&index), state.is_full(now), 10 - room, state.in_flight);
                Some((order, index))
            });
            let Some((_, index)) = candidates.min_by_key(|(order, _)| *order) else { break };
            let begun = self.keys[index].state.lock().begin(wanted, now, self.rests.probe);
            if let Some(probe) = begun {
                self.next.store(index + 1, Ordering::Relaxed);
                return Ok(Picked { index, probe });
            }
        }
        Err(self.exhausted(wanted, now))
    }

    /// A call with a key ended; answers what others should hear of it.
    pub(crate) fn report(&self, picked: Picked, model: &str, outcome: KeyOutcome, now: Instant) -> Vec<News> {
        // A request must not be able to take away the last key: a refusal of that must be heard twice.
        let is_last = outcome == KeyOutcome::Refused
            && !(0..self.keys.len())
                .any(|other| other != picked.index && self.keys[other].state.lock().is_up(model, now));
        let key = &self.keys[picked.index];
        key.state.lock().end(model, picked.probe, outcome, is_last, &self.rests, now)
    }

    /// Quota has no room for the key until then: others go first.
    pub(crate) fn full(&self, index: usize, until: Instant) {
        self.keys[index].state.lock().full_until = Some(until);
    }

    /// What the provider said is left for the key, in thousandths, until then.
    pub(crate) fn left(&self, index: usize, thousandths: u16, until: Instant) {
        self.keys[index].state.lock().left = Some((thousandths, until));
    }

    /// Somebody else tries the key: it rests on until then.
    pub(crate) fn defer(&self, picked: Picked, model: &str, until: Instant) {
        self.keys[picked.index].state.lock().defer(model, until);
    }

    /// What others have found out about a key: it rests until then, or no more.
    pub(crate) fn hear(&self, id: &str, model: &str, rest: Option<(Instant, Kind)>) {
        if let Some(key) = self.keys.iter().find(|key| &*key.id == id) {
            key.state.lock().hear(model, rest);
        }
    }

    /// News that has reached the others.
    pub(crate) fn said(&self, id: &str, model: &str) {
        if let Some(key) = self.keys.iter().find(|key| &*key.id == id) {
            key.state.lock().said(model);
        }
    }

    /// How many keys could serve a call now.
    pub(crate) fn up(&self, now: Instant) -> usize {
        self.keys.iter().filter(|key| key.state.lock().is_up("", now)).count()
    }

    fn exhausted(&self, wanted: Wanted<'_>, now: Instant) -> Exhausted {
        let mut answer = Exhausted { retry_after: Duration::MAX, rate_limited: false, probing: false };
        for key in &self.keys {
            let state = key.state.lock();
            if let Some((until, kind, probing)) = state.rest(wanted.model, now) {
                answer.retry_after = answer.retry_after.min(until.saturating_duration_since(now));
                answer.rate_limited |= kind == Kind::RateLimited;
                answer.probing |= probing;
            }
        }
        if answer.retry_after == Duration::MAX {
            answer.retry_after = Duration::from_secs(1);
        }
        answer
    }
}
