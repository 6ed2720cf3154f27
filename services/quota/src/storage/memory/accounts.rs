//! The store's operations on accounts of limits across tenants.

use std::time::Duration;

use super::Store;
use crate::domain::Millis;
use crate::domain::shared::{AccountKey, HolderId, LeaseReply, LeaseRound, Reply, Round};
use crate::storage::store::{AccountContents, InstallAccount, Result};

impl Store {
    /// One message of a process to an account.
    pub(in crate::storage) fn shared_round(
        &self,
        generation: u64,
        account: &AccountKey,
        round: &Round,
    ) -> Result<Reply> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.accounts.round(generation, self.now(), account, round))
    }

    /// One message about an account's seats.
    pub(in crate::storage) fn shared_leases(
        &self,
        generation: u64,
        account: &AccountKey,
        round: &LeaseRound,
    ) -> Result<LeaseReply> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.accounts.leases(generation, self.now(), account, round))
    }

    /// The fence of an account. What is emptied is another generation, so the generation is the fence.
    pub(in crate::storage) fn shared_fence(&self) -> Result<Vec<u8>> {
        self.0.gate.pass(None)?;
        Ok(self.0.gate.number().to_le_bytes().to_vec())
    }

    /// Puts an account's totals in place; false if the fence is gone.
    pub(in crate::storage) fn shared_install(
        &self,
        generation: u64,
        account: &AccountKey,
        fence: &[u8],
        install: &InstallAccount,
    ) -> Result<bool> {
        self.0.gate.pass(Some(generation))?;
        let stands = self.0.gate.number().to_le_bytes() == fence;
        if stands {
            self.0.accounts.install(generation, self.now(), account, install);
        }
        Ok(stands)
    }

    /// Notes that an account may have something from now on.
    pub(in crate::storage) fn shared_register(&self, account: &AccountKey, now_seconds: i64) -> Result<()> {
        self.0.gate.pass(None)?;
        self.0.accounts.register(account, now_seconds);
        Ok(())
    }

    /// All accounts that may have something, with when (seconds) they were registered.
    pub(in crate::storage) fn shared_accounts(&self) -> Result<Vec<(AccountKey, i64)>> {
        self.0.gate.pass(None)?;
        Ok(self.0.accounts.listed())
    }

    /// Removes what can't matter any more from an account, all at once.
    pub(in crate::storage) fn shared_sweep(
        &self,
        generation: u64,
        account: &AccountKey,
        _cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        self.0.gate.pass(Some(generation))?;
        self.0.accounts.sweep(self.now(), account, keep_marks);
        Ok(("0".to_owned(), 0))
    }

    /// The processes that an account has slices for, each with the end of its lease by the store's clock; and that clock.
    pub(in crate::storage) fn shared_holders(&self, account: &AccountKey) -> Result<(Vec<(HolderId, Millis)>, Millis)> {
        self.0.gate.pass(None)?;
        Ok((self.0.accounts.holders(account), self.now()))
    }

    /// Forgets a process whose lease has ended.
    pub(in crate::storage) fn shared_forget(
        &self,
        generation: u64,
        account: &AccountKey,
        holder: &HolderId,
    ) -> Result<bool> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.accounts.forget(self.now(), account, holder))
    }

    /// What an account holds.
    pub(in crate::storage) fn shared_contents(&self, account: &AccountKey) -> Result<AccountContents> {
        self.0.gate.pass(None)?;
        Ok(self.0.accounts.contents(self.now(), account))
    }
}
