//! Explain.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;
use weir_proto::common::v1::{Amount, ErrorReason};
use weir_proto::quota::v1 as proto;
use weir_rpc::Caller;
use weir_types::{names, page_size};

use super::{parse, render};
use crate::app::{DecidedLimit, Decision, Explanation, Question, State};
use crate::domain::{Millis, Subject, Value};

type Result<T> = std::result::Result<T, weir_rpc::Error>;

pub(super) fn question(caller: &Caller, request: &proto::ExplainRequest) -> Result<Question> {
    let reservation = match request.reservation_id.as_str() {
        "" => None,
        id => Some(parse::reservation("reservation_id", id)?),
    };
    let named = request.subject.as_ref().filter(|subject| !subject.organization.is_empty());
    let subject = match named {
        Some(subject) => Some(parse::subject(caller, Some(subject))?),
        // A service need not know whose a reservation is; a principal asks about its own organisation.
        None => match caller.principal() {
            Ok(principal) => Some(Subject { organization: principal.organization, values: Vec::new() }),
            Err(_) if reservation.is_some() => None,
            Err(_) => return Err(weir_rpc::Error::invalid("subject", "or a reservation must be named")),
        },
    };
    let most = page_size(request.page_size, 50, 500)
        .map_err(|error| weir_rpc::Error::invalid("page_size", error.to_string()))?;
    Ok(Question { subject, reservation, most: usize::try_from(most).unwrap_or(500) })
}

pub(super) fn explanation(explanation: Explanation) -> proto::ExplainResponse {
    proto::ExplainResponse {
        organization: names::organization(&explanation.organization),
        entitlements_version: explanation.version.unwrap_or(0),
        limits: explanation.limits.iter().map(render::limit_state).collect(),
        holders: explanation.holders.into_iter().map(decision).collect(),
        more_holders: explanation.more_holders,
        decisions: explanation.decisions.into_iter().map(decision).collect(),
        more_decisions: explanation.more_decisions,
        missing: explanation.missing,
    }
}

/// What all tenants use together, and which of the operator's keys they use, is the operator's to know.
pub(super) fn for_tenants(mut explanation: proto::ExplainResponse) -> proto::ExplainResponse {
    for decision in explanation.holders.iter_mut().chain(&mut explanation.decisions) {
        if let Some(subject) = &mut decision.subject {
            subject.labels.remove("provider_key");
        }
        for limit in &mut decision.limits {
            if matches!(limit.scope.as_str(), "plan" | "product" | "provider" | "provider_key") {
                (limit.used, limit.held) = (None, None);
                limit.subject.clear();
            }
        }
    }
    explanation
}

fn decision(decision: Decision) -> proto::Decision {
    let amounts = decision.amounts.iter().map(|(unit, value)| Amount { unit: unit.to_string(), value });
    let told = proto::Decision {
        reservation_id: decision.id.to_string(),
        subject: Some(subject(&decision.subject)),
        decision_time: Some(render::timestamp(decision.at)),
        amounts: amounts.collect(),
        limits: decision.limits.into_iter().map(limit).collect(),
        without_store: decision.without_store,
        ..proto::Decision::default()
    };
    match decision.state {
        State::Held(left) => {
            let state = if left > 0 { proto::DecisionState::Held } else { proto::DecisionState::Expired };
            proto::Decision { state: state.into(), lease_left: Some(signed(left)), ..told }
        }
        State::Ended { at, charged, estimated, replaced, late } => {
            let is_committed = charged.is_some();
            let state = if is_committed { proto::DecisionState::Committed } else { proto::DecisionState::Released };
            proto::Decision {
                state: state.into(),
                settle_time: Some(render::timestamp(at)),
                charged: charged.as_ref().map(render::amounts).unwrap_or_default(),
                estimated,
                replaced: replaced.as_ref().map(render::amounts).unwrap_or_default(),
                late,
                ..told
            }
        }
        State::Refused { reason, message, suppressed } => {
            let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).unwrap_or_default();
            proto::Decision {
                state: proto::DecisionState::Refused.into(),
                reason: reason.into(),
                message,
                suppressed,
                ..told
            }
        }
    }
}

fn limit(limit: DecidedLimit) -> proto::DecidedLimit {
    let span = |span: Option<Duration>| span.and_then(|span| ProtoDuration::try_from(span).ok());
    proto::DecidedLimit {
        limit: limit.limit,
        unit: limit.unit,
        scope: limit.scope,
        subject: limit.subject,
        amount: limit.amount,
        cap: limit.cap,
        used: limit.used,
        held: limit.held,
        refused: limit.refused,
        reset_after: span(limit.waits.0),
        retry_after: span(limit.waits.1),
    }
}

fn subject(subject: &Subject) -> proto::Subject {
    let organization = &subject.organization;
    let mut told = proto::Subject { organization: names::organization(organization), ..proto::Subject::default() };
    for value in &subject.values {
        match value {
            Value::Organization => {}
            Value::User(user) => told.user = names::user(organization, user),
            Value::ApiKey(key) => told.api_key = names::api_key(organization, key),
            Value::Ip(ip) => told.ip.clone_from(ip),
            Value::Visitor(visitor) => told.visitor.clone_from(visitor),
            Value::Label(name, value) => {
                told.labels.insert(name.clone(), value.clone());
            }
        }
    }
    told
}

/// Seconds and nanoseconds of the same sign.
fn signed(millis: Millis) -> ProtoDuration {
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
    ProtoDuration { seconds: millis / 1_000, nanos }
}
