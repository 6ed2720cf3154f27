//! After a process has died: what it gave out of its slices is looked up where it surely stands, in the tenants' reservations, and
//! counted by id; then the rest of its slices is free again.
//!
//! A request that the process had under way when it died was carried out long before its lease ended, or never is. What is being
//! settled while the reservations are read is told to the account by whoever settles it, within the pause before the process is
//! forgotten; and what is settled later counts when that is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Account, Shared};
use crate::domain::shared::HolderId;
use crate::domain::{Handle, Millis};
use crate::error::Result;

/// How long after its lease a process counts as dead: longer than a command can be on its way.
const AFTER: Millis = 500;
/// Between counting what was found and forgetting the process: longer than a settlement takes from one store's answer to the next.
const SETTLING: Duration = Duration::from_millis(1_500);
/// For so long no other process looks after the same account.
const TURN: Duration = Duration::from_secs(10);
/// Tenants that are listed together.
const PAGE: usize = 256;

impl Shared {
    /// Accounts whose last answer said that something is in slices of processes that say nothing any more.
    pub(super) fn bereaved(&self) -> Vec<Arc<Account>> {
        let accounts = self.accounts.lock();
        let lost = |account: &&Arc<Account>| matches!(account.slice.lock().last(), Some(Ok(answer)) if answer.lost > 0);
        accounts.values().filter(lost).cloned().collect()
    }

    /// Looks after all of these.
    pub(super) async fn reconcile(&self, accounts: Vec<Arc<Account>>) {
        for account in accounts {
            if let Err(error) = self.reconcile_one(&account).await {
                tracing::warn!(limit = account.known().limit.limit.name, %error, "slices of a dead process were not returned yet");
            }
        }
    }

    async fn reconcile_one(&self, account: &Arc<Account>) -> Result<()> {
        let (holders, now) = self.store.shared_holders(&account.key).await?;
        let dead: HashSet<HolderId> =
            holders.into_iter().filter(|(_, until)| until + AFTER <= now).map(|(holder, _)| holder).collect();
        if dead.is_empty() || !self.store.shared_turn(&account.key, &self.holder, TURN).await? {
            return Ok(());
        }
        let generation = self.epochs.verify().await?.number();
        let mut found = 0_usize;
        let mut skip = 0;
        loop {
            let tenants = self.store.tenants(skip, PAGE).await?;
            for tenant in &tenants {
                for (id, record) in self.store.contents(&tenant.id).await?.held {
                    let Ok(handle) = Handle::decode(&record.handle()) else { continue };
                    let given_out = handle
                        .across()
                        .filter(|(part, counter)| counter.account == account.key && dead.contains(&part.holder));
                    for (part, counter) in given_out {
                        let place = counter.place(account.known().limit.limit.window.kind(), part.taken_at);
                        let mut slice = account.slice.lock();
                        slice.announce(part.entry(id), counter.amount, place, part.holder, part.taken_at);
                        found += 1;
                    }
                }
            }
            skip += tenants.len();
            if tenants.len() < PAGE {
                break;
            }
        }
        while account.slice.lock().has_announcements() {
            self.refresh(account).await?;
        }
        sleep(SETTLING).await;
        let epoch = self.epochs.verify().await?;
        if epoch.number() != generation {
            // The account began anew, without slices.
            return Ok(());
        }
        for holder in &dead {
            if self.store.shared_forget(&epoch.store, &account.key, holder).await? {
                tracing::info!(limit = account.known().limit.limit.name, found, "a dead process's slice is free again");
            }
        }
        self.refresh(account).await
    }
}
