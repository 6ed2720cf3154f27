//! The keys of one provider: which one serves the next call, and which ones rest.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How a call with a key ended, as far as the key is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOutcome {
    /// The provider answered and had nothing against the key.
    Fine,
    /// 429: rest for as long as the provider said, else the configured time.
    RateLimited(Option<Duration>),
    /// 401, 402, 403: the key itself is refused.
    Refused,
    /// 5xx, a broken connection or no answer.
    Failed,
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

/// Failures in a row before a key rests.
const PATIENCE: u32 = 3;

#[derive(Debug, Default)]
struct Health {
    /// Rests until then. Stays set until a call is fine, so that after a rest one call alone tries the key.
    rests_until: Option<Instant>,
    /// The rest is for a refusal or a limit (not for failures): what the callers are told.
    rate_limited: bool,
    failures: u32,
    in_flight: u32,
    /// One call alone tries it, and it rests meanwhile; until when it rested before.
    probed: Option<Instant>,
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

/// The keys of one provider by index.
#[derive(Debug)]
pub(crate) struct KeyPool {
    rests: Rests,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    keys: Vec<Health>,
    next: usize,
}

impl KeyPool {
    pub(crate) fn new(keys: usize, rests: Rests) -> Self {
        let keys = std::iter::repeat_with(Health::default).take(keys).collect();
        Self { rests, state: Mutex::new(State { keys, next: 0 }) }
    }

    /// Picks the available key with the fewest calls under way, in turns, not one of `tried` while another is left.
    pub(crate) fn pick(&self, now: Instant, tried: &[usize]) -> Result<usize, Exhausted> {
        let mut state = self.state.lock();
        let count = state.keys.len();
        let first = state.next;
        let best = (0..count)
            .map(|offset| (first + offset) % count)
            .filter(|&index| state.keys[index].rests_until.is_none_or(|until| until <= now))
            .min_by_key(|&index| (tried.contains(&index), state.keys[index].in_flight));
        let Some(index) = best else { return Err(state.exhausted(now)) };
        state.next = index + 1;
        let key = &mut state.keys[index];
        if key.rests_until.is_some() {
            key.probed = key.rests_until.replace(now + self.rests.probe);
        }
        key.in_flight += 1;
        Ok(index)
    }

    /// A call with the key at `index` ended.
    pub(crate) fn report(&self, index: usize, outcome: KeyOutcome, now: Instant) {
        let mut state = self.state.lock();
        let key = &mut state.keys[index];
        key.in_flight = key.in_flight.saturating_sub(1);
        let probed = key.probed.take().is_some();
        let rest = match outcome {
            KeyOutcome::Fine => {
                *key = Health { in_flight: key.in_flight, ..Health::default() };
                return;
            }
            KeyOutcome::RateLimited(stated) => stated.unwrap_or(self.rests.rate_limited),
            KeyOutcome::Refused => self.rests.refused,
            KeyOutcome::Failed => {
                key.failures += 1;
                match key.failures.checked_sub(PATIENCE) {
                    Some(doublings) => {
                        self.rests.failed.saturating_mul(1 << doublings.min(16)).min(self.rests.failed_most)
                    }
                    // What the key rested for is not over yet, as far as anyone knows.
                    None if probed => self.rests.failed,
                    None => return,
                }
            }
        };
        key.rate_limited = matches!(outcome, KeyOutcome::RateLimited(_));
        // The time for the probe is over with it. Any other rest goes on, whatever a call says that began before it.
        key.rests_until = if probed { Some(now + rest) } else { key.rests_until.max(Some(now + rest)) };
    }

    /// A call with the key at `index` ended without saying anything about the key.
    pub(crate) fn put_back(&self, index: usize) {
        let mut state = self.state.lock();
        let key = &mut state.keys[index];
        key.in_flight = key.in_flight.saturating_sub(1);
        if let Some(rested) = key.probed.take() {
            // Nothing was tried: the next call may.
            key.rests_until = Some(rested);
        }
    }
}

impl State {
    fn exhausted(&self, now: Instant) -> Exhausted {
        let first = self.keys.iter().filter_map(|key| key.rests_until).min();
        Exhausted {
            retry_after: first.map_or(Duration::from_secs(1), |until| until.saturating_duration_since(now)),
            rate_limited: self.keys.iter().any(|key| key.rate_limited && key.rests_until.is_some()),
            probing: self.keys.iter().any(|key| key.probed.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pool(keys: usize) -> (KeyPool, Instant) {
        let rests = Rests {
            rate_limited: SECOND,
            refused: 60 * SECOND,
            failed: SECOND,
            failed_most: 30 * SECOND,
            probe: 5 * SECOND,
        };
        (KeyPool::new(keys, rests), Instant::now())
    }

    #[test]
    fn keys_take_turns() {
        let (pool, now) = pool(3);
        let picks: Vec<_> = (0..6)
            .map(|_| {
                let index = pool.pick(now, &[]).expect("a key");
                pool.report(index, KeyOutcome::Fine, now);
                index
            })
            .collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_key_with_fewest_calls_under_way_is_next() {
        let (pool, now) = pool(2);
        assert_eq!([(); 4].map(|()| pool.pick(now, &[])), [Ok(0), Ok(1), Ok(0), Ok(1)]);
        pool.put_back(1);
        assert_eq!(pool.pick(now, &[]), Ok(1));
    }

    #[test]
    fn a_rate_limited_key_costs_one_call_per_rest() {
        let (pool, now) = pool(1);
        assert_eq!(pool.pick(now, &[]), Ok(0));
        pool.report(0, KeyOutcome::RateLimited(Some(2 * SECOND)), now);
        assert_eq!(pool.pick(now, &[]), Err(Exhausted { retry_after: 2 * SECOND, rate_limited: true, probing: false }));
        let rested = now + 2 * SECOND;
        assert_eq!(pool.pick(rested, &[]), Ok(0), "one call tries it");
        assert!(pool.pick(rested, &[]).is_err(), "and no other meanwhile");
        pool.report(0, KeyOutcome::Fine, rested);
        assert_eq!((pool.pick(rested, &[]), pool.pick(rested, &[])), (Ok(0), Ok(0)));
    }

    #[test]
    fn a_refused_key_leaves_the_work_to_the_others() {
        let (pool, now) = pool(2);
        assert_eq!(pool.pick(now, &[]), Ok(0));
        pool.report(0, KeyOutcome::Refused, now);
        assert!((0..4).all(|_| pool.pick(now, &[]) == Ok(1)));
    }

    #[test]
    fn a_retry_goes_to_another_key_while_there_is_one() {
        let (pool, now) = pool(2);
        assert_eq!(pool.pick(now, &[0]), Ok(1));
        assert_eq!(pool.pick(now, &[0, 1]), Ok(0));
    }

    #[test]
    fn failures_rest_a_key_only_in_a_row_and_longer_each_time() {
        let (pool, now) = pool(1);
        let fail = |at| {
            pool.pick(at, &[]).expect("a key");
            pool.report(0, KeyOutcome::Failed, at);
        };
        fail(now);
        fail(now);
        pool.report(0, KeyOutcome::Fine, now);
        fail(now);
        fail(now);
        assert!(pool.pick(now, &[]).is_ok());
        pool.put_back(0);
        fail(now);
        assert_eq!(pool.pick(now, &[]).map_err(|e| e.retry_after), Err(SECOND));
        fail(now + SECOND);
        assert_eq!(pool.pick(now + SECOND, &[]).map_err(|e| e.retry_after), Err(2 * SECOND));
    }

    #[test]
    fn a_probe_that_fails_rests_the_key_for_its_own_time() {
        let (pool, now) = pool(1);
        let wait = |at| pool.pick(at, &[]).map_err(|exhausted| exhausted.retry_after);
        assert_eq!(wait(now), Ok(0));
        pool.report(0, KeyOutcome::RateLimited(Some(SECOND)), now);
        for outcome in [KeyOutcome::RateLimited(Some(SECOND)), KeyOutcome::RateLimited(None), KeyOutcome::Failed] {
            let at = now + SECOND;
            assert_eq!(wait(at), Ok(0));
            assert_eq!(wait(at), Err(5 * SECOND), "one call alone tries it");
            pool.report(0, outcome, at - SECOND);
            assert_eq!(wait(at - SECOND), Err(SECOND), "{outcome:?}");
        }
    }

    #[test]
    fn a_rest_is_not_cut_short_by_a_call_that_began_before_it() {
        let (pool, now) = pool(1);
        assert_eq!([(); 2].map(|()| pool.pick(now, &[])), [Ok(0), Ok(0)]);
        pool.report(0, KeyOutcome::Refused, now);
        pool.report(0, KeyOutcome::RateLimited(Some(SECOND)), now);
        assert_eq!(pool.pick(now, &[]).map_err(|exhausted| exhausted.retry_after), Err(60 * SECOND));
    }

    #[test]
    fn a_probe_that_never_reached_the_provider_leaves_the_key_to_the_next_call() {
        let (pool, now) = pool(1);
        assert_eq!(pool.pick(now, &[]), Ok(0));
        pool.report(0, KeyOutcome::RateLimited(Some(SECOND)), now);
        assert_eq!(pool.pick(now + SECOND, &[]), Ok(0));
        pool.put_back(0);
        assert_eq!(pool.pick(now + SECOND, &[]), Ok(0));
        assert!(pool.pick(now + SECOND, &[]).is_err());
    }
}
