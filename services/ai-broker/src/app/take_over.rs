//! Reservations of brokers that died are settled here: with their draft, unless usage knows better.

use std::time::Duration;

use prost::Message as _;
use tokio_util::sync::CancellationToken;
use weir_proto::quota::v1::{ExpiredReservation, TakeOverRequest};
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::Failure;
use weir_types::{ReservationId, names};

use super::reservations::Reservations;
use super::{Metrics, Settler};

/// Taken over at once.
const BATCH: i32 = 200;
/// How long this broker has to settle them before another may.
const LEASE: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5);

/// Takes over every `check` until `stop`.
pub(crate) async fn run(
    reservations: std::sync::Arc<Reservations>,
    settler: Settler,
    metrics: std::sync::Arc<Metrics>,
    check: Duration,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(check);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        loop {
            match take_over(&reservations, &settler, &metrics).await {
                Ok(taken) if taken >= BATCH.unsigned_abs() as usize => {}
                Ok(_) => break,
                Err(failure) => {
                    tracing::warn!(error = %failure, "expired reservations could not be taken over");
                    break;
                }
            }
        }
    }
}

async fn take_over(reservations: &Reservations, settler: &Settler, metrics: &Metrics) -> Result<usize, Failure> {
    let lease = prost_types::Duration::try_from(LEASE).ok();
    let mut request = tonic::Request::new(TakeOverRequest { max: BATCH, lease });
    request.set_timeout(DEADLINE);
    let answer = reservations.quota.clone().take_over(request).await.map_err(|status| Failure::from(&status))?;
    let expired = answer.into_inner().reservations;
    let taken = expired.len();
    for reservation in expired {
        let id = reservation.reservation_id.clone();
        match settle(reservation, settler) {
            Some(()) => {
                metrics.taken_over.increment(1);
                tracing::info!(reservation = %id, "took over an expired reservation");
            }
            None => tracing::error!(reservation = %id, "an expired reservation can't be read"),
        }
    }
    Ok(taken)
}

fn settle(expired: ExpiredReservation, settler: &Settler) -> Option<()> {
    let id: ReservationId = expired.reservation_id.parse().ok()?;
    let organization = names::parse_organization(&expired.organization).ok()?;
    let draft = UsageEvent::decode(expired.context).ok()?;
    settler.take_over(id, organization, expired.handle, draft);
    Some(())
}
