//! A call that this broker makes under an idempotency key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uuid::Uuid;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::{Kept, Once, in_progress, unavailable};
use crate::domain::idempotency::Keyed;
use crate::storage::idempotency as storage;

/// Between tries to write down what came of a call, after the one that its client waits for.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// The right to make a call; kept alive until it is dropped. One that is dropped without an end is taken for lost.
pub(crate) struct Claim {
    once: Arc<Once>,
    organization: OrganizationId,
    id: Uuid,
    keyed: Keyed,
    asked: AtomicBool,
    charged: AtomicBool,
}

impl Claim {
    pub(super) fn new(once: Arc<Once>, organization: OrganizationId, id: Uuid, keyed: Keyed) -> Self {
        Self { once, organization, id, keyed, asked: AtomicBool::new(false), charged: AtomicBool::new(false) }
    }

    /// A provider is about to be asked: after this the call is never made by anybody else.
    ///
    /// # Errors
    /// Somebody else has the claim, or it can't be marked: then no provider may be asked.
    pub(crate) async fn ask(&self) -> Result<(), Error> {
        if self.asked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let work = async {
            let mut tx = self.once.database.begin_tenant(self.organization).await?;
            let asked = storage::ask(&mut tx, self.organization, self.id).await?;
            tx.commit().await?;
            Ok(asked)
        };
        match self.once.in_time(work).await {
            Ok(true) => {
                self.asked.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(false) => Err(in_progress()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Something of the call is charged, whatever comes of it.
    pub(crate) fn charge(&self) {
        self.charged.store(true, Ordering::Relaxed);
    }

    /// The call has been made: its answer, or none that could be kept.
    pub(crate) async fn made(self: &Arc<Self>, kept: Option<Kept>) {
        let plain = kept.and_then(|kept| kept.encoded(self.once.options.max_answer_bytes));
        let sealed = plain.and_then(|plain| self.keyed.seal.close(&self.keyed.name, &plain));
        self.settle(End::Made(sealed)).await;
    }

    /// The call was refused: what was charged for is not tried again, of anything else nothing remains.
    pub(crate) async fn refused(self: &Arc<Self>, error: &Error) {
        if self.charged.load(Ordering::Relaxed) {
            self.made(Some(Kept::refused(error))).await;
        } else {
            self.settle(End::Free).await;
        }
    }

    /// Writes the end down; if that fails goes on in the background, within a bound.
    async fn settle(self: &Arc<Self>, end: End) {
        let Err(error) = self.write(&end).await else { return };
        tracing::warn!(%error, "the end of a call with an idempotency key can't be written down yet");
        let claim = Arc::clone(self);
        self.once.tasks.spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                if claim.write(&end).await.is_ok() {
                    return;
                }
            }
            claim.once.metrics.unwritten.increment(1);
        });
    }

    async fn write(&self, end: &End) -> Result<(), weir_database::Error> {
        let work = async {
            let mut tx = self.once.database.begin_tenant(self.organization).await?;
            match end {
                End::Made(sealed) => storage::end(&mut tx, self.organization, self.id, sealed.as_deref()).await?,
                End::Free => storage::release(&mut tx, self.organization, self.id).await?,
            }
            Ok(tx.commit().await?)
        };
        self.once.in_time(work).await
    }
}

enum End {
    /// With what is kept, sealed.
    Made(Option<Vec<u8>>),
    Free,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.once.live.lock().remove(&self.id);
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("id", &self.id).finish_non_exhaustive()
    }
}
