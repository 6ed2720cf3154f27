//! What the messages of a history's clients say, and what their answers mean.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;
use weir_proto::common::v1::{Amount, ErrorReason};
use weir_proto::quota::v1::{LimitState, Subject};
use weir_quota::domain::Millis;
use weir_rpc::Failure;
use weir_types::{OrganizationId, names};

use super::reference::{Amounts, State, Who};

pub(super) fn subject(tenant: OrganizationId, who: Who) -> Subject {
    let named = |letter: u8| {
        let mut bytes = *tenant.as_uuid().as_bytes();
        bytes[15] = letter;
        Uuid::from_bytes(bytes)
    };
    Subject {
        user: who.user.map(|user| names::user(&tenant, &named(user).into())).unwrap_or_default(),
        api_key: who.key.map(|key| names::api_key(&tenant, &named(key).into())).unwrap_or_default(),
        ip: who.ip.map(|ip| format!("10.0.0.{ip}")).unwrap_or_default(),
        labels: who.feature.map(|feature| ("feature".to_owned(), format!("f{feature}"))).into_iter().collect(),
        ..crate::house::subject(tenant)
    }
}

pub(super) fn list(amounts: &Amounts) -> Vec<Amount> {
    amounts.iter().map(|(unit, value)| Amount { unit: (*unit).to_owned(), value: *value }).collect()
}

pub(super) fn duration(millis: Millis) -> Option<prost_types::Duration> {
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).unwrap();
    Some(prost_types::Duration { seconds: millis / 1_000, nanos })
}

fn millis(duration: Option<&prost_types::Duration>) -> Option<Millis> {
    duration.map(|duration| duration.seconds * 1_000 + i64::from(duration.nanos / 1_000_000))
}

pub(super) fn states(limits: &[LimitState]) -> Vec<State> {
    let state = |limit: &LimitState| State {
        limit: limit.limit.clone(),
        cap: limit.cap,
        used: limit.used,
        held: limit.held,
        requested: limit.requested,
        reset: millis(limit.reset_after.as_ref()),
        retry: millis(limit.retry_after.as_ref()),
    };
    limits.iter().map(state).collect()
}

/// The limits that refuse, as a refusal tells them to programs.
pub(super) fn refusing(failure: &Failure, names: &[&str]) -> Vec<State> {
    let told = |name: &&str| {
        let text = failure.metadata(&format!("limit.{name}"))?;
        let figures: BTreeMap<&str, &str> = text.split(';').filter_map(|pair| pair.split_once('=')).collect();
        let number = |key: &str| figures[key].parse().ok();
        Some(State {
            limit: (*name).to_owned(),
            cap: number("cap")?,
            used: number("used")?,
            held: number("held")?,
            requested: number("requested")?,
            reset: number("reset_ms"),
            retry: number("retry_ms"),
        })
    };
    names.iter().filter_map(told).collect()
}

/// An answer that says nothing about what has happened.
pub(super) fn is_lost(failure: &Failure) -> bool {
    matches!(failure.reason(), ErrorReason::Unavailable | ErrorReason::Overloaded)
}

/// What became of one lease.
pub(super) const fn outcome(outcomes: &[i32]) -> &'static str {
    match outcomes {
        [1] => "extended",
        [2] => "announced",
        [3] => "settled",
        _ => "nothing",
    }
}

pub(super) fn context(id: u64) -> Bytes {
    format!("draft {id}").into_bytes().into()
}
