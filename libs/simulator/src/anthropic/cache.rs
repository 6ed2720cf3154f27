//! The prompt cache: prefixes of requests that were marked by `cache_control`, remembered per key and model.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Prefixes that are remembered; more than any test has, less than any leak.
const REMEMBERED: usize = 100_000;

/// A prefix that ends at a `cache_control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Breakpoint {
    /// Of everything up to here.
    pub(crate) hash: u64,
    /// Up to here.
    pub(crate) tokens: u64,
    /// One hour instead of five minutes.
    pub(crate) long: bool,
}

/// What of a request's input came from the cache and what went into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) read: u64,
    /// Written for five minutes.
    pub(crate) write_short: u64,
    /// Written for an hour.
    pub(crate) write_long: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    prefixes: Mutex<HashMap<u64, Instant>>,
}

impl Cache {
    /// Reads the longest prefix that is remembered, and remembers all of them from now on.
    pub(crate) fn visit(&self, secret: &str, model: &str, breakpoints: &[Breakpoint], shortest: u64) -> Cached {
        let mut cached = Cached::default();
        let now = Instant::now();
        let mut prefixes = self.prefixes.lock();
        if prefixes.len() >= REMEMBERED {
            prefixes.retain(|_, &mut until| until > now);
        }
        let eligible = eligible(secret, model, breakpoints, shortest);
        let hit = longest(&prefixes, &eligible, now);
        cached.read = hit.map_or(0, |index| eligible[index].1.tokens);
        let mut before = cached.read;
        for (_, at) in eligible.iter().skip(hit.map_or(0, |index| index + 1)) {
            let written = if at.long { &mut cached.write_long } else { &mut cached.write_short };
            *written += at.tokens - before;
            before = at.tokens;
        }
        for (key, at) in eligible {
            if prefixes.len() < REMEMBERED {
                let life = Duration::from_secs(if at.long { 3_600 } else { 300 });
                prefixes.insert(key, now + life);
            }
        }
        cached
    }

    /// What [`Cache::visit`] would read now.
    pub(crate) fn peek(&self, secret: &str, model: &str, breakpoints: &[Breakpoint], shortest: u64) -> u64 {
        let eligible = eligible(secret, model, breakpoints, shortest);
        longest(&self.prefixes.lock(), &eligible, Instant::now()).map_or(0, |index| eligible[index].1.tokens)
    }

    pub(crate) fn clear(&self) {
        self.prefixes.lock().clear();
    }
}

fn eligible<'a>(secret: &str, model: &str, breakpoints: &'a [Breakpoint], shortest: u64) -> Vec<(u64, &'a Breakpoint)> {
    breakpoints.iter().filter(|at| at.tokens >= shortest).map(|at| (key(secret, model, at.hash), at)).collect()
}

fn longest(prefixes: &HashMap<u64, Instant>, eligible: &[(u64, &Breakpoint)], now: Instant) -> Option<usize> {
    eligible.iter().rposition(|(key, _)| prefixes.get(key).is_some_and(|&until| until > now))
}

fn key(secret: &str, model: &str, hash: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (secret, model, hash).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hash: u64, tokens: u64) -> Breakpoint {
        Breakpoint { hash, tokens, long: false }
    }

    #[test]
    fn a_prefix_is_written_once_and_read_from_then_on() {
        let cache = Cache::default();
        let visit = |points: &[Breakpoint]| cache.visit("k", "m", points, 10);
        assert_eq!(visit(&[at(1, 20)]), Cached { read: 0, write_short: 20, write_long: 0 });
        assert_eq!(visit(&[at(1, 20), at(2, 50)]), Cached { read: 20, write_short: 30, write_long: 0 });
        assert_eq!(visit(&[at(1, 20), at(2, 50)]), Cached { read: 50, write_short: 0, write_long: 0 });
        assert_eq!(cache.visit("other", "m", &[at(1, 20)], 10).read, 0);
        assert_eq!(visit(&[at(7, 9)]), Cached::default(), "too short to be cached");
    }
}
