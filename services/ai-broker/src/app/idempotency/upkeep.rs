//! Leases of calls under way, and the end of those whose time is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weir_database::Error;

use super::Once;
use crate::storage::idempotency as storage;

/// How often old ones are forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// The most batches of old ones at once.
const BATCHES: usize = 20;

impl Once {
    /// Prolongs leases until the shutdown and until nothing is under way any more.
    pub(super) async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        let beat = self.options.lease / 5;
        let mut forgot = Instant::now();
        loop {
            if stop.run_until_cancelled(tokio::time::sleep(beat)).await.is_none() {
                if self.live.lock().is_empty() {
                    return;
                }
                tokio::time::sleep(beat).await;
            }
            let live: Vec<Uuid> = self.live.lock().iter().copied().collect();
            if !live.is_empty() {
                // While the store is away nobody else can claim anything either.
                drop(self.database.bounded(self.beat(&live)).await);
            }
            if forgot.elapsed() >= FORGET && !stop.is_cancelled() {
                forgot = Instant::now();
                for _ in 0..BATCHES {
                    if !self.database.bounded(self.forget()).await.is_ok_and(|forgotten| forgotten > 0) {
                        break;
                    }
                }
            }
        }
    }

    async fn beat(&self, live: &[Uuid]) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        storage::beat(&mut tx, live, self.options.lease).await?;
        Ok(tx.commit().await?)
    }

    async fn forget(&self) -> Result<u64, Error> {
        let mut tx = self.database.begin().await?;
        let forgotten = storage::forget(&mut tx).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}
