//! The providers' API keys: who is accepted, how much within a sliding window, and how much at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::Error;
use crate::options::{ApiKey, Limits, Options};

/// Unknown keys that are told apart when every key is accepted; the others share one account.
const TOLD_APART: usize = 10_000;

/// What a request takes of its key's limits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Polls and lists take nothing of the requests.
    pub(crate) requests: u64,
    /// Input tokens that limits count: at Anthropic, those that are not read from a cache.
    pub(crate) input: u64,
    /// The most output tokens.
    pub(crate) output: u64,
}

impl Demand {
    /// One request without tokens.
    pub(crate) const REQUEST: Self = Self { requests: 1, input: 0, output: 0 };

    pub(crate) const fn tokens(input: u64, output: u64) -> Self {
        Self { requests: 1, input, output }
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
    Concurrent,
}

/// A request beyond a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooMany {
    pub(crate) counted: Counted,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) requested: u64,
    /// Until enough has left the window; zero for what is under way at once.
    pub(crate) retry_after: Duration,
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
}

/// What is left of a key's limits after a request; nothing where there is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Headroom {
    pub(crate) requests: Option<Room>,
    pub(crate) tokens: Option<Room>,
    pub(crate) input: Option<Room>,
    pub(crate) output: Option<Room>,
    /// Under way at once, this request included, and the most that may be.
    pub(crate) concurrent: Option<(u64, u64)>,
}

/// What was taken within the window that ends now; exact, not approximated.
#[derive(Debug, Default)]
struct Meter {
    taken: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Meter {
    fn forget(&mut self, now: Instant, window: Duration) {
        while let Some(&(at, amount)) = self.taken.front()
            && now.duration_since(at) >= window
        {
            self.taken.pop_front();
            self.sum -= amount;
        }
    }

    /// Until the window has room for `amount`.
    fn wait(&self, now: Instant, window: Duration, amount: u64, limit: u64) -> Duration {
        let mut sum = self.sum;
        for &(at, taken) in &self.taken {
            sum -= taken;
            if sum.saturating_add(amount) <= limit {
                return window.saturating_sub(now.duration_since(at));
            }
        }
        window
    }

    fn take(&mut self, now: Instant, amount: u64) {
        self.taken.push_back((now, amount));
        self.sum += amount;
    }

    fn room(&self, now: Instant, window: Duration, limit: u64) -> Room {
        let oldest = self.taken.front().map_or(Duration::ZERO, |&(at, _)| now.duration_since(at));
        Room { limit, remaining: limit.saturating_sub(self.sum), reset: window.saturating_sub(oldest) }
    }
}

#[derive(Debug, Default)]
struct Meters {
    /// In the order of [`METERED`].
    meters: [Meter; 4],
}

const METERED: [Counted; 4] = [Counted::Requests, Counted::Tokens, Counted::InputTokens, Counted::OutputTokens];

/// One key of a provider.
#[derive(Debug)]
pub(crate) struct Account {
    /// Enough of the secret to recognise it by.
    pub(crate) label: Arc<str>,
    limits: Limits,
    meters: Mutex<Meters>,
    under_way: Arc<AtomicU64>,
    pub(crate) requests: AtomicU64,
}

/// One of the requests that a key may have under way.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicU64>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    fn new(secret: &str, limits: Limits) -> Self {
        let (meters, under_way, requests) = (Mutex::default(), Arc::default(), AtomicU64::new(0));
        Self { label: label(secret), limits, meters, under_way, requests }
    }

    /// Admits a request if all limits have room for it, and takes from all of them.
    pub(crate) fn admit(&self, window: Duration, demand: Demand) -> Result<(Headroom, Option<Slot>), TooMany> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (slot, concurrent) = match self.slot()? {
            Some((slot, now, limit)) => (Some(slot), Some((now, limit))),
            None => (None, None),
        };
        let limits = [
            self.limits.requests.map(u64::from),
            self.limits.tokens,
            self.limits.input_tokens,
            self.limits.output_tokens,
        ];
        let mut headroom = Headroom { concurrent, ..Headroom::default() };
        if limits.iter().all(Option::is_none) {
            return Ok((headroom, slot));
        }
        let amounts = [demand.requests, demand.input.saturating_add(demand.output), demand.input, demand.output];
        let now = Instant::now();
        let mut held = self.meters.lock();
        for ((meter, limit), (&counted, requested)) in
            held.meters.iter_mut().zip(limits).zip(METERED.iter().zip(amounts))
        {
            meter.forget(now, window);
            let Some(limit) = limit else { continue };
            if requested > 0 && meter.sum.saturating_add(requested) > limit {
                let retry_after = meter.wait(now, window, requested, limit);
                return Err(TooMany { counted, limit, used: meter.sum, requested, retry_after });
            }
        }
        let mut rooms = [None; 4];
        for (((meter, limit), amount), room) in held.meters.iter_mut().zip(limits).zip(amounts).zip(&mut rooms) {
            let Some(limit) = limit else { continue };
            if amount > 0 {
                meter.take(now, amount);
            }
            *room = Some(meter.room(now, window, limit));
        }
        [headroom.requests, headroom.tokens, headroom.input, headroom.output] = rooms;
        Ok((headroom, slot))
    }

    /// A place among those under way, if they are limited.
    fn slot(&self) -> Result<Option<(Slot, u64, u64)>, TooMany> {
        let Some(limit) = self.limits.concurrent.map(u64::from) else { return Ok(None) };
        let taken =
            self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1));
        match taken {
            Ok(before) => Ok(Some((Slot(Arc::clone(&self.under_way)), before + 1, limit))),
            Err(used) => {
                Err(TooMany { counted: Counted::Concurrent, limit, used, requested: 1, retry_after: Duration::ZERO })
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Keys {
    accounts: RwLock<HashMap<Box<str>, Arc<Account>>>,
    configured: Vec<ApiKey>,
    default_limits: Limits,
    overflow: Arc<Account>,
}

impl Keys {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let mut accounts = HashMap::new();
        for key in &options.api_keys {
            if key.secret.is_empty() {
                return Err(Error::Options("an API key is empty".to_owned()));
            }
            let account = Arc::new(Account::new(&key.secret, key.limits.or(options.limits)));
            if accounts.insert(Box::from(key.secret.as_str()), account).is_some() {
                return Err(Error::Options(format!("the API key {} is given twice", label(&key.secret))));
            }
        }
        Ok(Self {
            accounts: RwLock::new(accounts),
            configured: options.api_keys.clone(),
            default_limits: options.limits,
            overflow: Arc::new(Account::new("others", Limits::default())),
        })
    }

    /// The account of a secret, or none if it is not accepted.
    pub(crate) fn account(&self, secret: &str) -> Option<Arc<Account>> {
        if let Some(account) = self.accounts.read().get(secret) {
            return Some(Arc::clone(account));
        }
        if !self.configured.is_empty() {
            return None;
        }
        let mut accounts = self.accounts.write();
        if accounts.len() >= TOLD_APART {
            return Some(Arc::clone(&self.overflow));
        }
        let account = accounts.entry(Box::from(secret));
        Some(Arc::clone(account.or_insert_with(|| Arc::new(Account::new(secret, self.default_limits)))))
    }

    pub(crate) fn requests(&self) -> Vec<(String, u64)> {
        let accounts = self.accounts.read();
        accounts.values().map(|key| (key.label.to_string(), key.requests.load(Ordering::Relaxed))).collect()
    }

    pub(crate) fn reset(&self) {
        for account in self.accounts.read().values() {
            *account.meters.lock() = Meters::default();
            account.requests.store(0, Ordering::Relaxed);
        }
    }
}

/// `sk-…wxyz`: somebody may point a client with a real key here.
pub(crate) fn label(secret: &str) -> Arc<str> {
    let tail: String = secret.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    Arc::from(if secret.len() > 4 { format!("…{tail}") } else { secret.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn exactly_the_limit_is_admitted_within_a_window() {
        let account = Account::new("sk-1", Limits { requests: Some(3), ..Limits::default() });
        let admit = |window| account.admit(window, Demand::REQUEST).map(|(room, _)| room.requests.unwrap().remaining);
        assert_eq!([admit(WINDOW).unwrap(), admit(WINDOW).unwrap(), admit(WINDOW).unwrap()], [2, 1, 0]);
        let refused = admit(WINDOW).unwrap_err();
        assert!(refused.retry_after > Duration::from_secs(59) && refused.retry_after <= WINDOW);
        assert!(admit(Duration::ZERO).is_ok());
    }

    #[test]
    fn the_window_slides_request_by_request() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        meter.take(at(0), 5);
        meter.take(at(40), 7);
        assert_eq!(meter.wait(at(50), WINDOW, 5, 12), Duration::from_secs(10));
        assert_eq!(meter.wait(at(50), WINDOW, 6, 12), Duration::from_secs(50));
        meter.forget(at(60), WINDOW);
        assert_eq!(meter.room(at(60), WINDOW, 12).remaining, 5);
        meter.forget(at(100), WINDOW);
        assert_eq!(meter.room(at(100), WINDOW, 12).remaining, 12);
    }

    #[test]
    fn a_refused_request_takes_nothing_of_any_limit() {
        let limits =
            Limits { requests: Some(9), input_tokens: Some(100), output_tokens: Some(10), ..Limits::default() };
        let account = Account::new("sk-1", limits);
        let too_many = account.admit(WINDOW, Demand::tokens(50, 11)).unwrap_err();
        assert_eq!((too_many.counted, too_many.limit, too_many.requested), (Counted::OutputTokens, 10, 11));
        let (room, _) = account.admit(WINDOW, Demand::tokens(100, 10)).unwrap();
        assert_eq!(
            [room.requests, room.input, room.output].map(|room| room.unwrap().remaining),
            [8, 0, 0],
            "the refused request is not counted"
        );
        assert_eq!(account.admit(WINDOW, Demand::tokens(1, 0)).unwrap_err().counted, Counted::InputTokens);
    }

    #[test]
    fn as_many_are_under_way_at_once_as_allowed() {
        let account = Account::new("sk-1", Limits { concurrent: Some(2), ..Limits::default() });
        let first = account.admit(WINDOW, Demand::REQUEST).unwrap();
        let second = account.admit(WINDOW, Demand::REQUEST).unwrap();
        assert_eq!((first.0.concurrent, second.0.concurrent), (Some((1, 2)), Some((2, 2))));
        assert_eq!(account.admit(WINDOW, Demand::REQUEST).unwrap_err().counted, Counted::Concurrent);
        drop(first);
        assert!(account.admit(WINDOW, Demand::REQUEST).is_ok());
    }

    #[test]
    fn a_label_never_shows_a_whole_secret() {
        assert_eq!(&*label("sk-abcdefgh"), "…efgh");
    }
}
