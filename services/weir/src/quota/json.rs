//! What quota explains, for programs.

use serde_json::{Map, Value, json};
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::{Decision, ExplainResponse, Subject};

use super::times;

/// The answer with the names of its messages' fields.
pub(super) fn explanation(answer: &ExplainResponse) -> Value {
    let limit = |limit: &weir_proto::quota::v1::LimitState| {
        json!({
            "limit": limit.limit, "unit": limit.unit, "scope": limit.scope, "cap": limit.cap, "used": limit.used,
            "held": limit.held, "reset_after_ms": millis(limit.reset_after),
        })
    };
    json!({
        "organization": answer.organization,
        "entitlements_version": answer.entitlements_version,
        "limits": answer.limits.iter().map(limit).collect::<Vec<_>>(),
        "holders": answer.holders.iter().map(decision).collect::<Vec<_>>(),
        "more_holders": answer.more_holders,
        "decisions": answer.decisions.iter().map(decision).collect::<Vec<_>>(),
        "more_decisions": answer.more_decisions,
        "missing": answer.missing,
    })
}

fn decision(decision: &Decision) -> Value {
    let limits = decision.limits.iter().map(|limit| {
        json!({
            "limit": limit.limit, "unit": limit.unit, "scope": limit.scope, "subject": limit.subject,
            "amount": limit.amount, "cap": limit.cap, "used": limit.used, "held": limit.held,
            "refused": limit.refused, "reset_after_ms": millis(limit.reset_after),
            "retry_after_ms": millis(limit.retry_after),
        })
    });
    json!({
        "reservation_id": decision.reservation_id,
        "subject": decision.subject.as_ref().map(subject),
        "decision_time": times::instant(decision.decision_time),
        "state": short(decision.state().as_str_name(), "DECISION_STATE_"),
        "amounts": amounts(&decision.amounts),
        "limits": limits.collect::<Vec<_>>(),
        "without_store": decision.without_store,
        "lease_left_ms": millis(decision.lease_left),
        "settle_time": times::instant(decision.settle_time),
        "charged": amounts(&decision.charged),
        "estimated": decision.estimated,
        "replaced": amounts(&decision.replaced),
        "late": decision.late,
        "reason": (decision.reason != 0).then(|| short(decision.reason().as_str_name(), "ERROR_REASON_")),
        "message": decision.message,
        "suppressed": decision.suppressed,
    })
}

fn subject(subject: &Subject) -> Value {
    json!({
        "organization": subject.organization, "user": subject.user, "api_key": subject.api_key, "ip": subject.ip,
        "visitor": subject.visitor,
        "labels": subject.labels,
    })
}

fn amounts(amounts: &[Amount]) -> Map<String, Value> {
    amounts.iter().map(|amount| (amount.unit.clone(), amount.value.into())).collect()
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

fn millis(span: Option<prost_types::Duration>) -> Option<i64> {
    let span = span?;
    Some(span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos / 1_000_000)))
}
