//! The provider's API keys: who is accepted, and how often within a sliding window.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::Error;
use crate::options::{ApiKey, Options};

/// Unknown keys that are told apart when every key is accepted; the others share one account.
const TOLD_APART: usize = 10_000;

/// One key of the provider.
#[derive(Debug)]
pub(crate) struct Account {
    /// Enough of the secret to recognise it by.
    pub(crate) label: Arc<str>,
    limit: Option<u32>,
    admitted: Mutex<VecDeque<Instant>>,
    pub(crate) requests: AtomicU64,
}

/// A request beyond the limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooMany {
    pub(crate) limit: u32,
    /// Until the oldest request leaves the window.
    pub(crate) retry_after: Duration,
}

/// What is left of the limit after a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headroom {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    pub(crate) reset: Duration,
}

impl Account {
    fn new(secret: &str, limit: Option<u32>) -> Self {
        Self { label: label(secret), limit, admitted: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// Admits a request if fewer than the limit were admitted within the window that ends now; exact, not approximated.
    pub(crate) fn admit(&self, window: Duration) -> Result<Option<Headroom>, TooMany> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(limit) = self.limit else { return Ok(None) };
        let now = Instant::now();
        let mut admitted = self.admitted.lock();
        while admitted.front().is_some_and(|&at| now.duration_since(at) >= window) {
            admitted.pop_front();
        }
        let used = u32::try_from(admitted.len()).unwrap_or(u32::MAX);
        if used >= limit {
            let oldest = admitted.front().map_or(Duration::ZERO, |&at| now.duration_since(at));
            return Err(TooMany { limit, retry_after: window.saturating_sub(oldest) });
        }
        admitted.push_back(now);
        let oldest = admitted.front().map_or(Duration::ZERO, |&at| now.duration_since(at));
        Ok(Some(Headroom { limit, remaining: limit - used - 1, reset: window.saturating_sub(oldest) }))
    }
}

#[derive(Debug)]
pub(crate) struct Keys {
    accounts: RwLock<HashMap<Box<str>, Arc<Account>>>,
    configured: Vec<ApiKey>,
    default_limit: Option<u32>,
    overflow: Arc<Account>,
}

impl Keys {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let mut accounts = HashMap::new();
        for key in &options.api_keys {
            let limit = key.requests_per_window.or(options.requests_per_window);
            let account = Arc::new(Account::new(&key.secret, limit));
            if key.secret.is_empty() {
                return Err(Error::Options("an API key is empty".to_owned()));
            }
            if accounts.insert(Box::from(key.secret.as_str()), account).is_some() {
                return Err(Error::Options(format!("the API key {} is given twice", label(&key.secret))));
            }
        }
        Ok(Self {
            accounts: RwLock::new(accounts),
            configured: options.api_keys.clone(),
            default_limit: options.requests_per_window,
            overflow: Arc::new(Account::new("others", None)),
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
        Some(Arc::clone(account.or_insert_with(|| Arc::new(Account::new(secret, self.default_limit)))))
    }

    pub(crate) fn requests(&self) -> Vec<(String, u64)> {
        let accounts = self.accounts.read();
        accounts.values().map(|key| (key.label.to_string(), key.requests.load(Ordering::Relaxed))).collect()
    }

    pub(crate) fn reset(&self) {
        for account in self.accounts.read().values() {
            account.admitted.lock().clear();
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

    #[test]
    fn exactly_the_limit_is_admitted_within_a_window() {
        let account = Account::new("sk-1", Some(3));
        let window = Duration::from_secs(60);
        let left: Vec<u32> = (0..3).map(|_| account.admit(window).unwrap().unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = account.admit(window).unwrap_err();
        assert!(refused.retry_after > Duration::from_secs(59) && refused.retry_after <= window);
        assert!(account.admit(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_label_never_shows_a_whole_secret() {
        assert_eq!(&*label("sk-abcdefgh"), "…efgh");
    }
}
