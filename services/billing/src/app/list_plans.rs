//! The plans on offer.

use super::Billing;
use crate::domain::catalogue::Plan;

impl Billing {
    /// The plans on offer, by name.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.catalogue.plans()
    }
}
