//! What calls by callers' own keys cost: the platform nothing, their holders what the list says.

use weir_proto::billing::v1::{CalendarUnit, CalendarWindow, Limit, OnFailure, Window, window};
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::Subject;
use weir_proto::usage::v1::UsageEvent;
use weir_types::price::Metered;
use weir_types::{MAX_AMOUNT, NanoUsd, unit};

use super::LABEL;
use super::table::OwnKey;

/// What is reserved: none of the platform's money, and as much of the holder's.
pub(crate) fn reserved(mut amounts: Vec<Amount>) -> Vec<Amount> {
    for amount in amounts.iter_mut().filter(|amount| amount.unit == unit::NANO_USD) {
        unit::OWN_NANO_USD.clone_into(&mut amount.unit);
    }
    amounts
}

/// What was used, with its cost on the holder's side.
pub(crate) fn used(mut metered: Metered, cost: NanoUsd) -> Metered {
    metered.units.insert(unit::OWN_NANO_USD.to_owned(), cost.0);
    metered
}

impl OwnKey {
    /// What is recorded if nobody sees how the attempt ends.
    pub(crate) fn draft(&self, draft: UsageEvent) -> UsageEvent {
        let mut quantities = draft.quantities;
        quantities.insert(unit::OWN_NANO_USD.to_owned(), draft.cost_nano_usd);
        UsageEvent { provider_key: self.name(), cost_nano_usd: 0, quantities, ..draft }
    }

    /// Marks the subject of a reservation: the holder's own limits count by it. The platform's keys and its room with the provider are
    /// left alone.
    pub(crate) fn mark(&self, subject: &mut Subject) {
        subject.labels.insert(LABEL.to_owned(), self.view.id.to_string());
    }

    /// The holder's limits. All of them if there is any, so that their counters stay together when one is set or lifted.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let limits = &self.view.limits;
        if limits.is_empty() {
            return Vec::new();
        }
        let minute = || window::Kind::Rolling(prost_types::Duration { seconds: 60, nanos: 0 });
        let month =
            window::Kind::Calendar(CalendarWindow { unit: CalendarUnit::Month.into(), time_zone: String::new() });
        vec![
            limit("own-key-requests-per-minute", unit::REQUEST, limits.requests_per_minute, minute(), OnFailure::Local),
            limit("own-key-tokens-per-minute", unit::TOKEN, limits.tokens_per_minute, minute(), OnFailure::Local),
            limit(
                "own-key-cost-per-month",
                unit::OWN_NANO_USD,
                limits.cost_per_month.map(|cost| cost.0),
                month,
                OnFailure::Closed,
            ),
        ]
    }
}

fn limit(name: &str, unit: &str, amount: Option<i64>, kind: window::Kind, on_failure: OnFailure) -> Limit {
    Limit {
        name: name.to_owned(),
        scope: LABEL.to_owned(),
        unit: unit.to_owned(),
        amount: amount.unwrap_or(MAX_AMOUNT),
        window: Some(Window { kind: Some(kind) }),
        on_failure: on_failure.into(),
        alert_percents: Vec::new(),
    }
}
