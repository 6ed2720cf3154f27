//! Accounts of limits across tenants.

use std::time::Duration;

use weir_types::ReservationId;

use super::{InForce, Result, Store};
use crate::domain::Millis;
use crate::domain::shared::{AccountKey, HolderId, LeaseReply, LeaseRound, Reply, Round};

/// An account's totals as they stand in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallAccount {
    /// The start of the period; 0 of a rolling window.
    pub period: Millis,
    /// Committed in the period, and the row's version.
    pub total: (i64, i64),
    /// Of a rolling window: its buckets by their end, oldest first.
    pub buckets: Vec<(Millis, i64)>,
}

/// All that an account holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountContents {
    /// The generation in which it was loaded.
    pub generation: u64,
    /// The start of the period; 0 of a rolling window.
    pub period: Millis,
    /// Committed in the period; of a rolling window everything in the buckets.
    pub spent: i64,
    /// The sum of what it holds, as the account keeps it.
    pub held_sum: i64,
    /// What it holds of each reservation.
    pub held: Vec<(ReservationId, i64)>,
    /// What is in slices.
    pub slices: i64,
    /// Calls that have a seat.
    pub seats: Vec<ReservationId>,
}

impl Store {
    /// One message of a process to an account.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again, with a later `seq`, is safe.
    pub async fn shared_round(&self, generation: &InForce, account: &AccountKey, round: &Round) -> Result<Reply> {
        match self {
            Self::Redis(store) => store.shared_round(generation.scripts()?, account, round).await,
            Self::Memory(store) => store.shared_round(generation.number(), account, round),
        }
    }

    /// One message about an account's seats.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_leases(
        &self,
        generation: &InForce,
        account: &AccountKey,
        round: &LeaseRound,
    ) -> Result<LeaseReply> {
        match self {
            Self::Redis(store) => store.shared_leases(generation.scripts()?, account, round).await,
            Self::Memory(store) => store.shared_leases(generation.number(), account, round),
        }
    }

    /// The fence of an account: it stands until the store is emptied. Take it before reading what will be installed.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_fence(&self, account: &AccountKey) -> Result<Vec<u8>> {
        match self {
            Self::Redis(store) => store.shared_fence(account).await,
            Self::Memory(store) => store.shared_fence(),
        }
    }

    /// Puts an account's totals in place, unless it is in this generation already; false if the fence is gone.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_install(
        &self,
        generation: &InForce,
        account: &AccountKey,
        fence: &[u8],
        install: &InstallAccount,
    ) -> Result<bool> {
        match self {
            Self::Redis(store) => store.shared_install(generation.scripts()?, account, fence, install).await,
            Self::Memory(store) => store.shared_install(generation.number(), account, fence, install),
        }
    }

    /// Notes that an account may have something from now on.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_register(&self, account: &AccountKey, now_seconds: i64) -> Result<()> {
        match self {
            Self::Redis(store) => store.shared_register(account, now_seconds).await,
            Self::Memory(store) => store.shared_register(account, now_seconds),
        }
    }

    /// All accounts that may have something, with when (seconds) they were registered.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_accounts(&self) -> Result<Vec<(AccountKey, i64)>> {
        match self {
            Self::Redis(store) => store.shared_accounts().await,
            Self::Memory(store) => store.shared_accounts(),
        }
    }

    /// Removes what can't matter any more from a part of an account; answers the next cursor (`0` at the end) and how many fields
    /// are left.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_sweep(
        &self,
        generation: &InForce,
        account: &AccountKey,
        cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        match self {
            Self::Redis(store) => store.shared_sweep(generation.scripts()?, account, cursor, keep_marks).await,
            Self::Memory(store) => store.shared_sweep(generation.number(), account, cursor, keep_marks),
        }
    }

    /// The processes that an account has slices for, each with the end of its lease by the account's clock; and that clock.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_holders(&self, account: &AccountKey) -> Result<(Vec<(HolderId, Millis)>, Millis)> {
        match self {
            Self::Redis(store) => store.shared_holders(account).await,
            Self::Memory(store) => store.shared_holders(account),
        }
    }

    /// Forgets a process whose lease has ended: whatever it gave out is known.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_forget(&self, generation: &InForce, account: &AccountKey, holder: &HolderId) -> Result<bool> {
        match self {
            Self::Redis(store) => store.shared_forget(generation.scripts()?, account, holder).await,
            Self::Memory(store) => store.shared_forget(generation.number(), account, holder),
        }
    }

    /// Takes a turn at looking after an account's dead processes; false if another process has it.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_turn(&self, account: &AccountKey, holder: &HolderId, span: Duration) -> Result<bool> {
        match self {
            Self::Redis(store) => store.shared_turn(account, holder, span).await,
            // The only process always has it.
            Self::Memory(store) => store.ping().map(|()| true),
        }
    }

    /// What an account holds.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_contents(&self, account: &AccountKey) -> Result<AccountContents> {
        match self {
            Self::Redis(store) => store.shared_contents(account).await,
            Self::Memory(store) => store.shared_contents(account),
        }
    }
}
