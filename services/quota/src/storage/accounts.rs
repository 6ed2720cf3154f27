//! Accounts of limits across tenants in the memory of a single process: for a fast store that is no server. Each operation is one
//! step under one lock; there are few accounts, and a process that draws from its own memory draws rarely.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::store::{AccountContents, InstallAccount};
use crate::domain::Millis;
use crate::domain::shared::{Account, AccountKey, HolderId, LeaseAccount, LeaseReply, LeaseRound, Reply, Round};

/// All accounts.
#[derive(Debug, Default)]
pub struct Accounts(Mutex<HashMap<AccountKey, One>>);

#[derive(Debug, Default)]
struct One {
    account: Account,
    seats: LeaseAccount,
    registered: i64,
}

impl Accounts {
    fn with<T>(&self, key: &AccountKey, work: impl FnOnce(&mut One) -> T) -> T {
        let mut accounts = self.0.lock();
        match accounts.get_mut(key) {
            Some(one) => work(one),
            None => work(accounts.entry(key.clone()).or_default()),
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// One message to an account.
    pub fn round(&self, generation: u64, now: Millis, key: &AccountKey, round: &Round) -> Reply {
        self.with(key, |one| one.account.round(generation, now, round))
    }

    /// One message about an account's seats.
    pub fn leases(&self, generation: u64, now: Millis, key: &AccountKey, round: &LeaseRound) -> LeaseReply {
        self.with(key, |one| one.seats.round(generation, now, round))
    }

    /// Puts an account's totals in place, unless it is in this generation already. There is no fence: what is emptied is another
    /// generation.
    pub fn install(&self, generation: u64, now: Millis, key: &AccountKey, install: &InstallAccount) {
        let InstallAccount { period, total, buckets } = install.clone();
        self.with(key, |one| one.account.install(generation, now, period, total, buckets));
    }

    /// Notes that an account may have something from now on.
    pub fn register(&self, key: &AccountKey, now_seconds: i64) {
        self.with(key, |one| one.registered = now_seconds);
    }

    /// All accounts that may have something, with when (seconds) they were registered.
    pub fn listed(&self) -> Vec<(AccountKey, i64)> {
        let accounts = self.0.lock();
        let listed = accounts.iter().filter(|(_, one)| one.registered > 0);
        listed.map(|(key, one)| (key.clone(), one.registered)).collect()
    }

    /// Removes what can't matter any more.
    pub fn sweep(&self, now: Millis, key: &AccountKey, keep_marks: Duration) {
        let keep = Millis::try_from(keep_marks.as_millis()).unwrap_or(Millis::MAX / 2);
        self.with(key, |one| one.account.sweep(now, keep));
    }

    /// The processes that an account has slices for, each with the end of its lease.
    pub fn holders(&self, key: &AccountKey) -> Vec<(HolderId, Millis)> {
        self.with(key, |one| one.account.holders())
    }

    /// Forgets a process whose lease has ended.
    pub fn forget(&self, now: Millis, key: &AccountKey, holder: &HolderId) -> bool {
        self.with(key, |one| one.account.forget(now, holder))
    }

    /// What an account holds.
    pub fn contents(&self, now: Millis, key: &AccountKey) -> AccountContents {
        self.with(key, |one| {
            let (held, slices) = one.account.contents();
            let seats = one.seats.live(now).collect();
            let sums = one.account.sums().unwrap_or_default();
            AccountContents {
                generation: sums.generation,
                period: sums.period,
                spent: sums.spent,
                held_sum: sums.held,
                held,
                slices,
                seats,
            }
        })
    }
}
