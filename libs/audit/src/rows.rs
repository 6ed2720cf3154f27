//! What the three services say about one id, compared.

use uuid::Uuid;

use crate::check::{Check, Finding};
use crate::record::{Event, Rated, Settlement};

/// Everything that is known about one id.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) settlement: Option<Settlement>,
    pub(crate) event: Option<Event>,
    pub(crate) rated: Option<Rated>,
}

impl Row {
    /// Every way in which the services contradict each other.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut find = |check, detail: String| found.push(Finding::new(check, self.id.to_string(), detail));
        match (&self.settlement, &self.event) {
            (Some(settlement), None) if !settlement.released => {
                find(Check::CommitWithoutEvent, settlement.amounts.to_string());
            }
            (Some(settlement), Some(event)) if settlement.released => {
                find(Check::EventOfReleased, event.amounts.to_string());
            }
            (Some(settlement), Some(event))
                if (settlement.amounts, settlement.estimated) != (event.amounts, event.estimated) =>
            {
                find(
                    Check::CommittedAmounts,
                    format!(
                        "quota {}, estimated {}; usage {}, estimated {}",
                        settlement.amounts, settlement.estimated, event.amounts, event.estimated
                    ),
                );
            }
            (None, Some(event)) if event.from_broker => find(Check::EventWithoutSettlement, event.amounts.to_string()),
            _ => {}
        }
        match (&self.event, &self.rated) {
            (Some(event), None) => find(Check::EventNotRated, event.amounts.to_string()),
            (None, Some(rated)) => find(Check::RatedWithoutEvent, rated.amounts.to_string()),
            (Some(event), Some(rated)) => {
                if (event.amounts, event.cached_input_tokens, event.estimated)
                    != (rated.amounts, rated.cached_input_tokens, rated.estimated)
                {
                    find(
                        Check::RatedAmounts,
                        format!(
                            "usage {}, {} cached, estimated {}; billing {}, {} cached, estimated {}",
                            event.amounts,
                            event.cached_input_tokens,
                            event.estimated,
                            rated.amounts,
                            rated.cached_input_tokens,
                            rated.estimated
                        ),
                    );
                }
            }
            (None, None) => {}
        }
        let mut organizations: Vec<&str> = [
            self.settlement.as_ref().map(|settlement| settlement.organization.as_str()),
            self.event.as_ref().map(|event| event.organization.as_str()),
            self.rated.as_ref().map(|rated| rated.organization.as_str()),
        ]
        .into_iter()
        .flatten()
        .collect();
        organizations.dedup();
        if organizations.len() > 1 {
            find(Check::Organization, organizations.join(", "));
        }
        found
    }
}
