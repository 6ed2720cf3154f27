//! Leases are renewed while their calls are under way, and announced again when quota's fast store has lost them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use weir_proto::quota::v1::{ExtendRequest, LeaseExtension};
use weir_rpc::Failure;
use weir_types::ReservationId;

use super::reservations::{Lease, Reservations};

/// Leases in one request.
const BATCH: usize = 500;
const DEADLINE: Duration = Duration::from_secs(2);

/// Looks after the leases every `check` until `stop`.
pub(crate) async fn run(reservations: Arc<Reservations>, check: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(check);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(failure) = renew(&reservations).await {
            tracing::warn!(error = %failure, "leases could not be renewed");
        }
    }
}

/// Renews what is due. An empty request still learns the store's epoch; if that has changed,
/// everything that was reserved under another is announced.
async fn renew(reservations: &Reservations) -> Result<(), Failure> {
    let started = Instant::now();
    let due = started.checked_sub(reservations.options.lease / 3).unwrap_or(started);
    if extend(reservations, reservations.renewed_before(due)).await? {
        let announced = reservations.renewed_before(started);
        tracing::warn!(leases = announced.len(), "announcing live reservations again");
        extend(reservations, announced).await?;
    }
    Ok(())
}

/// Extends `leases`; answers whether the store has lost data since the last time.
async fn extend(reservations: &Reservations, leases: Vec<(ReservationId, Lease)>) -> Result<bool, Failure> {
    let lease = prost_types::Duration::try_from(reservations.options.lease).ok();
    let mut lost = false;
    let mut rest = leases.as_slice();
    loop {
        let (batch, more) = rest.split_at(rest.len().min(BATCH));
        let extensions = batch.iter().map(|(id, held)| LeaseExtension {
            reservation_id: id.to_string(),
            handle: held.handle.clone(),
            lease,
            context: held.context.clone(),
            amounts: Vec::new(),
        });
        let mut request = tonic::Request::new(ExtendRequest { leases: extensions.collect() });
        request.set_timeout(DEADLINE);
        let answer = reservations.quota.clone().extend(request).await.map_err(|status| Failure::from(&status))?;
        lost |= reservations.note_epoch(answer.into_inner().epoch);
        for (id, _) in batch {
            reservations.renewed(id);
        }
        rest = more;
        if rest.is_empty() {
            return Ok(lost);
        }
    }
}
