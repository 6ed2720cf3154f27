//! Answers.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::{Duration as ProtoDuration, Timestamp};
use weir_proto::common::v1::{Amount, ItemError};
use weir_proto::quota::v1 as proto;

use crate::app::{Drift, Grown, LeaseOutcome, Outcome, Reserved, TakenOver};
use crate::domain::{LimitState, Millis};
use crate::error::Error;
use crate::refusal;
use crate::storage::settlements::{ByUnit, Listed};

pub(super) fn reserved(reserved: Reserved) -> proto::ReserveResponse {
    let limits = reserved.limits.iter().map(limit_state).collect();
    proto::ReserveResponse { handle: reserved.handle, limits, epoch: reserved.epoch }
}

/// A refusal by limits; any other error is given back.
pub(super) fn refusal(error: Error) -> Result<proto::Refusal, ItemError> {
    match &error {
        Error::Refused(limits) => Ok(refused(limits)),
        _ => Err(weir_rpc::Error::from(error).into()),
    }
}

/// Of limits some of which refuse.
pub(super) fn refused(limits: &[LimitState]) -> proto::Refusal {
    proto::Refusal {
        limits: limits.iter().map(limit_state).collect(),
        refused_by: refused_by(limits),
        retry_after: span(refusal::retry_after(limits)),
        reason: refusal::reason(limits).into(),
        message: refusal::Told(limits).to_string(),
    }
}

pub(super) fn refused_by(limits: &[LimitState]) -> Vec<String> {
    limits.iter().filter(|limit| limit.refuses).map(|limit| limit.limit.to_string()).collect()
}

pub(super) const fn lease_outcome(outcome: LeaseOutcome) -> proto::LeaseOutcome {
    match outcome {
        LeaseOutcome::Extended => proto::LeaseOutcome::Extended,
        LeaseOutcome::Announced => proto::LeaseOutcome::Announced,
        LeaseOutcome::Settled => proto::LeaseOutcome::Settled,
    }
}

pub(super) fn grown(grown: Grown) -> proto::ExtendResponse {
    let epoch = grown.reserved.as_ref().map_or(0, |reserved| reserved.epoch);
    let outcomes = vec![lease_outcome(grown.outcome).into()];
    proto::ExtendResponse { outcomes, epoch, grown: grown.reserved.map(reserved) }
}

pub(super) fn committed(outcome: &Outcome) -> proto::CommitResponse {
    proto::CommitResponse { amounts: amounts(&outcome.amounts), duplicate: outcome.duplicate, late: outcome.late }
}

pub(super) const fn released(outcome: &Outcome) -> proto::ReleaseResponse {
    proto::ReleaseResponse { duplicate: outcome.duplicate }
}

pub(super) fn taken_over(one: TakenOver) -> proto::ExpiredReservation {
    proto::ExpiredReservation {
        reservation_id: one.id.to_string(),
        organization: weir_types::names::organization(&one.organization),
        handle: one.handle,
        context: one.context,
        amounts: one.amounts.iter().map(|(unit, value)| Amount { unit: unit.to_string(), value }).collect(),
    }
}

pub(super) fn settlement(one: Listed) -> proto::Settlement {
    proto::Settlement {
        reservation_id: one.id.to_string(),
        organization: weir_types::names::organization(&one.organization),
        released: one.released,
        estimated: one.estimated,
        amounts: amounts(&one.amounts),
        settle_time: Some(instant(one.settled_at)),
    }
}

pub(super) fn drift(drift: Drift) -> proto::CounterDrift {
    proto::CounterDrift {
        organization: weir_types::names::organization(&drift.organization),
        limit: drift.limit,
        subject: drift.subject,
        counter: drift.counter,
        expected: drift.expected,
    }
}

pub(super) fn timestamp(millis: Millis) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

pub(super) fn instant(instant: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(instant.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp { seconds: instant.timestamp(), nanos }
}

pub(super) fn limit_state(limit: &LimitState) -> proto::LimitState {
    proto::LimitState {
        limit: limit.limit.to_string(),
        unit: limit.unit.to_string(),
        scope: limit.scope.to_string(),
        cap: limit.cap,
        used: limit.used,
        held: limit.held,
        reset_after: span(limit.reset_after),
        requested: limit.requested,
        retry_after: span(limit.retry_after),
    }
}

pub(super) fn amounts(amounts: &ByUnit) -> Vec<Amount> {
    let amount = |(unit, value): (&String, &i64)| Amount { unit: unit.clone(), value: *value };
    BTreeMap::iter(amounts).map(amount).collect()
}

fn span(span: Option<Duration>) -> Option<ProtoDuration> {
    span.and_then(|span| ProtoDuration::try_from(span).ok())
}
