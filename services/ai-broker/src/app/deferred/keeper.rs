//! What is known durably of a job's request in a provider's queue.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_database::{Database, Error as DatabaseError};
use weir_types::ReservationId;

use super::Submitted;
use crate::app::call::ModelCall;
use crate::storage::jobs::JobKey;
use crate::storage::jobs::submissions;

pub(crate) use crate::storage::jobs::submissions::Submission;

/// Keeps what is known of the requests of one try of a job's step.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) database: Database,
    pub(crate) key: JobKey,
    pub(crate) step: i16,
    pub(crate) attempt: i32,
    /// The job's client asked for its end.
    pub(crate) cancelled: CancellationToken,
    /// The job's deadline.
    pub(crate) expires: Instant,
    /// The step has taken too long.
    pub(crate) timed_out: AtomicBool,
}

impl Keeper {
    /// Nobody wants the request's result any more: it is not only this broker that leaves.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.cancelled.is_cancelled() || self.timed_out.load(Ordering::Relaxed) || Instant::now() >= self.expires
    }

    /// The request of an earlier try, if there is one.
    pub(crate) async fn find(&self) -> Result<Option<Submission>, DatabaseError> {
        let find = async {
            let mut tx = self.database.begin_tenant(self.key.organization).await?;
            let found = submissions::find(&mut tx, self.key, self.step).await?;
            tx.rollback().await?;
            Ok(found)
        };
        self.database.bounded(find).await
    }

    async fn keep(&self, submission: &Submission) -> Result<(), DatabaseError> {
        let keep = async {
            let mut tx = self.database.begin_tenant(self.key.organization).await?;
            submissions::keep(&mut tx, self.key, self.step, self.attempt, submission).await?;
            tx.commit().await.map_err(DatabaseError::from)
        };
        self.database.bounded(keep).await
    }

    async fn forget(&self, reservation: ReservationId) -> Result<(), DatabaseError> {
        let forget = async {
            let mut tx = self.database.begin_tenant(self.key.organization).await?;
            submissions::forget(&mut tx, self.key, self.step, reservation).await?;
            tx.commit().await.map_err(DatabaseError::from)
        };
        self.database.bounded(forget).await
    }
}

impl ModelCall {
    /// Writes a job's request down; whether there is no more to be done.
    pub(super) async fn keep_submission(&self, submitted: &Submitted) -> bool {
        let Some(keeper) = &self.keeper else { return true };
        let submission = Submission {
            reservation_id: submitted.held.id.into(),
            handle: submitted.held.handle.to_vec(),
            draft: prost::Message::encode_to_vec(&submitted.held.draft),
            provider: self.route.provider.clone(),
            model: self.route.model.clone(),
            provider_key: match &self.own {
                Some(own) => own.name(),
                None => self.provider.keys.id(submitted.key.index()).to_string(),
            },
            request_id: submitted.ticket.request_id.clone(),
        };
        match keeper.keep(&submission).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a request can't be written down yet");
                false
            }
        }
    }

    /// The request has ended, and the next one is another.
    pub(super) async fn forget_submission(&self, reservation: ReservationId) {
        let Some(keeper) = &self.keeper else { return };
        if let Err(error) = keeper.forget(reservation).await {
            // Who finds it again learns that it has ended.
            tracing::warn!(%error, "a request can't be forgotten");
        }
    }
}
