//! What runs in the background: watching the fast store, and deleting what nobody asks for any more.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weir_types::OrganizationId;

use super::Quota;
use super::take_over::FORGET_AFTER;
use crate::error::Result;
use crate::storage::store::{Failure, List};
use crate::storage::{alerts, counters, refusals, settlements};

/// Rows deleted by one statement.
const ROWS: i64 = 5_000;
/// Between two steps, so that cleaning up never crowds out the hot path.
const BREATH: Duration = Duration::from_millis(10);

impl Quota {
    /// Notices a loss of the store's data although nobody asks for anything.
    pub(super) async fn watch_store(&self, shutdown: CancellationToken) {
        let mut before = None;
        loop {
            if let Ok(epoch) = self.epochs.verify().await
                && before != Some(epoch.number())
            {
                before = Some(epoch.number());
                // The list of tenants went with the rest: whoever has leases must be found again.
                let known = self.entitlements.known();
                for part in known.chunks(1_000) {
                    if let Err(error) = self.store.register(part).await {
                        tracing::warn!(%error, "tenants could not be registered");
                        before = None;
                    }
                }
            }
            if shutdown.run_until_cancelled(sleep(self.config.rebuild.check_every)).await.is_none() {
                return;
            }
        }
    }

    /// Cleans up, again and again.
    pub(super) async fn keep_house(&self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(sleep(self.config.housekeeping.every)).await.is_some() {
            if let Some(Err(error)) = shutdown.run_until_cancelled(self.clean()).await {
                tracing::warn!(%error, "cleaning up broke off");
            }
        }
    }

    async fn clean(&self) -> Result<()> {
        let (database, pool) = (&self.database, self.database.pool());
        let (settled, counted) = (self.config.settlements.retention, self.config.housekeeping.counter_retention);
        let (alerted, refused) = (self.config.alerts.retention, self.config.refusals.retention);
        while database.bounded(settlements::delete_expired(pool, settled, ROWS)).await? > 0 {
            sleep(BREATH).await;
        }
        while database.bounded(counters::delete_expired(pool, counted, ROWS)).await? > 0 {
            sleep(BREATH).await;
        }
        while database.bounded(alerts::delete_expired(pool, alerted, ROWS)).await? > 0 {
            sleep(BREATH).await;
        }
        while database.bounded(refusals::delete_expired(pool, refused, ROWS)).await? > 0 {
            sleep(BREATH).await;
        }
        self.sweep().await?;
        self.sweep_shared().await
    }

    /// Removes from the fast store what can't matter any more.
    async fn sweep(&self) -> Result<()> {
        const PAGE: usize = 256;
        let mut skip = 0;
        loop {
            let tenants = self.store.listed(List::States, skip, PAGE).await?;
            for tenant in &tenants {
                let left = self.sweep_one(&tenant.id).await?;
                if left == 0 && tenant.idle > FORGET_AFTER {
                    self.store.forget(tenant, List::States).await?;
                } else {
                    skip += 1;
                }
            }
            if tenants.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// The same of limits across tenants.
    async fn sweep_shared(&self) -> Result<()> {
        for (account, _) in self.store.shared_accounts().await? {
            let mut cursor = "0".to_owned();
            loop {
                let epoch = self.epochs.current().await?;
                match self.store.shared_sweep(&epoch.store, &account, &cursor, self.config.settlements.remember).await {
                    Ok((next, _)) if next == "0" => break,
                    Ok((next, _)) => cursor = next,
                    Err(Failure::OtherGeneration) => drop(self.epochs.reload().await?),
                    Err(failure) => return Err(failure.into()),
                }
                sleep(BREATH).await;
            }
        }
        Ok(())
    }

    /// Answers how many fields are left.
    async fn sweep_one(&self, id: &OrganizationId) -> Result<u64> {
        let keep = self.config.settlements.remember;
        let mut cursor = "0".to_owned();
        loop {
            let epoch = self.epochs.current().await?;
            match self.store.sweep(&epoch.store, id, &cursor, keep).await {
                Ok((next, left)) if next == "0" => return Ok(left),
                Ok((next, _)) => cursor = next,
                Err(Failure::OtherGeneration) => drop(self.epochs.reload().await?),
                Err(failure) => return Err(failure.into()),
            }
            sleep(BREATH).await;
        }
    }
}
