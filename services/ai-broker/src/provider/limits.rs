//! The limits that a provider's keys have of their own, for quota.

use weir_proto::billing::v1::{Concurrent, Limit, OnFailure, Window, window};
use weir_types::unit;

use crate::domain::keys::OwnLimits;

/// What quota counts a key's calls by, over all tenants.
pub(crate) const KEY_LABEL: &str = "provider_key";

/// A key's own limits as quota holds them over all brokers: those of each call, so that they hold from the first one on.
pub(super) fn quota_limits(own: OwnLimits) -> Vec<Limit> {
    let minute = || window::Kind::Rolling(prost_types::Duration { seconds: 60, nanos: 0 });
    let limit = |name: &str, unit: &str, amount: Option<i64>, kind: window::Kind| {
        Some(Limit {
            name: name.to_owned(),
            scope: KEY_LABEL.to_owned(),
            unit: unit.to_owned(),
            amount: amount?,
            window: Some(Window { kind: Some(kind) }),
            on_failure: OnFailure::Closed.into(),
            alert_percents: Vec::new(),
        })
    };
    [
        limit("key-requests-per-minute", unit::REQUEST, own.requests_per_minute, minute()),
        limit("key-tokens-per-minute", unit::TOKEN, own.tokens_per_minute, minute()),
        limit("key-concurrency", unit::CONCURRENT, own.concurrency, window::Kind::Concurrent(Concurrent {})),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_is_not_limited_in_is_no_limit() {
        let limits = quota_limits(OwnLimits { tokens_per_minute: Some(0), concurrency: Some(2), ..Default::default() });
        let said: Vec<_> = limits.iter().map(|limit| (limit.unit.as_str(), limit.amount)).collect();
        assert_eq!(said, [("token", 0), ("concurrent", 2)]);
        assert_eq!(quota_limits(OwnLimits::default()), []);
    }
}
