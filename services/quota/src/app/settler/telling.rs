//! What the fast store is told of what Postgres has.

use std::collections::HashMap;
use std::sync::Arc;

use weir_types::OrganizationId;

use super::Item;
use crate::app::shared;
use crate::domain::handle::{HandleShared, SharedCounter};
use crate::domain::shared::Ended;
use crate::domain::{self, CounterKey, HandleCounter, Kind, LimitId, Millis};
use crate::storage::counters::Total;
use crate::storage::settlements::{ByUnit, Settled};
use crate::storage::store::{Apply, ApplyCounter, ApplyKind, Ending};

/// The totals that a statement has touched.
pub(super) struct Totals(HashMap<(OrganizationId, LimitId, String, Millis), (i64, i64)>);

impl Totals {
    pub(super) fn new(totals: Vec<(OrganizationId, Total)>) -> Self {
        let entry = |(organization, total): (_, Total)| {
            ((organization, total.limit, total.subject, total.period), (total.committed, total.version))
        };
        Self(totals.into_iter().map(entry).collect())
    }
}

/// How a settlement ends what its reservation holds of limits across tenants.
pub(super) fn endings(item: &Item, row: &Settled, totals: &Totals) -> Vec<shared::Ending> {
    let Some(handle) = &item.handle else { return Vec::new() };
    let amount = |amounts: &ByUnit, key: &CounterKey| amounts.get(key.unit.as_str()).copied().unwrap_or(0);
    let ending = |((part, counter), key): ((&HandleShared, &SharedCounter), &Arc<CounterKey>)| {
        let place = counter.place(key.kind, part.taken_at);
        let used =
            |amounts: &ByUnit| if handle.holds_later(part.growth, &counter.account) { 0 } else { amount(amounts, key) };
        let total = totals.0.get(&(shared::nobody(), counter.account.limit, counter.account.value.to_string(), place));
        let ended = counter.at.is_some().then(|| Ended {
            id: part.entry(row.id),
            holder: part.holder,
            reserved: counter.amount,
            actual: used(&row.amounts),
            before: row.replaced.as_ref().map_or(0, used),
            ending: match Ending::of(row.released, row.estimated) {
                Ending::Released => domain::shared::Ending::Released,
                Ending::Estimated => domain::shared::Ending::Estimated,
                Ending::Final => domain::shared::Ending::Final,
            },
            written_in: row.applied.then_some(item.epoch),
            place,
            reserved_at: part.taken_at,
            total: total.copied().unwrap_or((0, 0)),
        });
        shared::Ending { id: row.id, account: counter.account.clone(), ended }
    };
    handle.across().zip(&item.keys.shared).map(ending).collect()
}

/// How it ends what its reservation holds of the tenant's own limits.
pub(super) fn application(item: &Item, row: &Settled, totals: &Totals) -> Apply {
    let amount = |amounts: &ByUnit, key: &CounterKey| amounts.get(key.unit.as_str()).copied().unwrap_or(0);
    let written_in = row.applied.then_some(item.epoch);
    let Some(handle) = &item.handle else {
        let ending = Ending::of(row.released, row.estimated);
        let (counters, concurrent) = (Vec::new(), Vec::new());
        return Apply { id: row.id, ending, written_in, reserved_at: None, counters, concurrent };
    };
    let counter = |(counter, key): (&HandleCounter, &Arc<CounterKey>)| {
        let place = counter.place(key.kind, handle.reserved_at);
        let value = handle.values[counter.value].clone();
        let kind = if let Kind::Rolling(length) = key.kind {
            ApplyKind::Rolling(length, key.is_durable())
        } else if key.is_durable() {
            // A release touches no total: version 0 is older than any.
            let total = totals.0.get(&(row.organization, counter.limit, value.text(), place));
            let (total, version) = total.copied().unwrap_or((0, 0));
            ApplyKind::Total(total, version)
        } else {
            ApplyKind::Sum
        };
        let before = row.replaced.as_ref().map_or(0, |replaced| amount(replaced, key));
        ApplyCounter {
            value,
            limit: counter.limit,
            kind,
            place,
            reserved: counter.amount,
            actual: amount(&row.amounts, key),
            before,
        }
    };
    let concurrent = handle.concurrent.iter().map(|one| (one.limit, handle.values[one.value].clone()));
    Apply {
        id: row.id,
        ending: Ending::of(row.released, row.estimated),
        written_in,
        reserved_at: Some(handle.reserved_at),
        counters: handle.counters.iter().zip(&item.keys.own).map(counter).collect(),
        concurrent: concurrent.collect(),
    }
}
