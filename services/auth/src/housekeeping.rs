//! Deletes what has ended, on every replica: deleting what another one has deleted does nothing.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_database::{Database, Error};
use weir_types::Clock;

use crate::config;
use crate::storage::{self, audit_log, revocations, signing_keys};

/// Deletes what has ended, now and then, until shutdown.
pub(crate) async fn run(
    database: Database,
    clock: Arc<dyn Clock>,
    config: config::Housekeeping,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(config.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        // Errors have been logged; the next round makes up for this one.
        if let Ok(deleted) = sweep(&database, clock.as_ref(), &config).await
            && deleted > 0
        {
            tracing::info!(rows = deleted, "deleted what has ended");
        }
    }
}

async fn sweep(database: &Database, clock: &dyn Clock, config: &config::Housekeeping) -> Result<u64, Error> {
    let now = clock.now();
    let mut tx = database.begin().await?;
    let mut deleted = revocations::delete_ended(&mut tx, now).await?;
    deleted += signing_keys::delete_ended(&mut tx, now).await?;
    deleted += audit_log::delete_before(&mut tx, now - config.audit_log).await?;
    storage::commit(tx).await?;
    Ok(deleted)
}
