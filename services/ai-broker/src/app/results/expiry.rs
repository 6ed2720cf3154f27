//! Deleting what is old.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_database::Error;

use super::Results;
use crate::storage::results;

/// How many go at once: their rows are locked meanwhile.
const BATCH: i64 = 16;

impl Results {
    /// Deletes what is old, until `stop`.
    pub(crate) async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(self.options.look)).await.is_some() {
            loop {
                match stop.run_until_cancelled(Box::pin(self.delete_old())).await {
                    None => return,
                    Some(Ok(deleted)) if deleted > 0 => {}
                    Some(Ok(_)) => break,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "old results can't be looked for");
                        break;
                    }
                }
            }
        }
    }

    /// Deletes some; how many. The object goes first: a row without one can be found again, an object without a row can not.
    async fn delete_old(&self) -> Result<usize, Error> {
        let mut tx = self.database.begin().await?;
        let old = results::expired(&mut tx, BATCH).await?;
        let mut gone = Vec::with_capacity(old.len());
        for object in &old {
            match self.objects.delete(&object.path()).await {
                Ok(()) => gone.push(object),
                Err(error) => {
                    tracing::warn!(%error, "an old result can't be deleted");
                    break;
                }
            }
        }
        results::forget(&mut tx, &gone).await?;
        tx.commit().await?;
        Ok(gone.len())
    }
}
