//! The sums of one pass over all records, and everything that did not agree in it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::check::{Check, Finding};
use crate::record::Amounts;
use crate::report::Totals;
use crate::rows::Row;

/// More findings than anybody reads; the rest is only counted.
const KEPT_FINDINGS: usize = 10_000;

/// The sums of one pass.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) quota: Totals,
    pub(crate) usage: Totals,
    pub(crate) billing: Totals,
    pub(crate) organizations: BTreeMap<String, OrganizationBooks>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) more_findings: u64,
    /// Calls from before this time may have lost their settlement.
    pub(crate) settlements_since: Option<DateTime<Utc>>,
    /// Calls that are older and have none.
    pub(crate) not_compared: u64,
}

/// The sums of one organisation, to hold against its rollups and its statement.
#[derive(Debug, Default)]
pub(crate) struct OrganizationBooks {
    pub(crate) usage: Totals,
    pub(crate) billing: Totals,
    /// The first and the last event.
    pub(crate) span: Option<(Timestamp, Timestamp)>,
}

impl Books {
    /// Adds what is known about one id.
    pub(crate) fn enter(&mut self, row: &Row) {
        if let Some(settlement) = &row.settlement {
            if settlement.released {
                self.quota.released += 1;
            } else {
                self.quota.add(settlement.amounts, settlement.estimated);
            }
        }
        if let Some(event) = &row.event {
            self.usage.add(event.amounts, event.estimated);
            let books = organization(&mut self.organizations, &event.organization);
            books.usage.add(event.amounts, event.estimated);
            books.extend(event.time);
        }
        if let Some(rated) = &row.rated {
            self.billing.add(rated.amounts, rated.estimated);
            organization(&mut self.organizations, &rated.organization).billing.add(rated.amounts, rated.estimated);
        }
        for finding in row.findings() {
            if finding.key().0 == Check::EventWithoutSettlement && self.is_forgotten(row.id) {
                self.not_compared += 1;
            } else {
                self.find(finding);
            }
        }
    }

    /// Whether quota may have deleted the settlement of this id since: a call is settled after its id is made.
    fn is_forgotten(&self, id: Uuid) -> bool {
        let (seconds, nanos) = id.get_timestamp().map_or((u64::MAX, 0), |time| time.to_unix());
        let made = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanos));
        made.zip(self.settlements_since).is_some_and(|(made, since)| made < since)
    }

    /// Notes a difference.
    pub(crate) fn find(&mut self, finding: Finding) {
        if self.findings.len() < KEPT_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}

fn organization<'a>(books: &'a mut BTreeMap<String, OrganizationBooks>, name: &str) -> &'a mut OrganizationBooks {
    books.entry(name.to_owned()).or_default()
}

impl OrganizationBooks {
    fn extend(&mut self, time: Timestamp) {
        let key = |time: &Timestamp| (time.seconds, time.nanos);
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((
            if key(&time) < key(&first) { time } else { first },
            if key(&time) > key(&last) { time } else { last },
        ));
    }
}

impl Totals {
    pub(crate) fn add(&mut self, amounts: Amounts, estimated: bool) {
        self.events = self.events.saturating_add(u64::try_from(amounts.requests).unwrap_or(u64::MAX));
        self.estimated += u64::from(estimated);
        // Nine billion dollars fit; beyond them the sum stays at the end of the scale rather than wrapping into a plausible one.
        self.input_tokens = self.input_tokens.saturating_add(amounts.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(amounts.output_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(amounts.cost_nano_usd);
    }
}
