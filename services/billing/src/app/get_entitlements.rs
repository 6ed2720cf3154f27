//! What plan an organisation is on, and what that gives.

use weir_types::OrganizationId;

use super::Billing;
use crate::domain::entitlements::{Entitlements, Subscription};
use crate::error::{Error, Result};
use crate::storage::subscriptions;

impl Billing {
    /// The plan of an organisation; of one that was never put on any, the default plan.
    ///
    /// # Errors
    /// When the database doesn't answer.
    pub(crate) async fn subscription(&self, organization: OrganizationId) -> Result<Subscription> {
        let mut tx = self.database.begin_tenant(organization).await?;
        let known = subscriptions::get(&mut tx, organization).await?;
        tx.rollback().await?;
        Ok(known.unwrap_or_else(|| Subscription::of_unknown(organization, &self.catalogue)))
    }

    /// What an organisation may.
    ///
    /// # Errors
    /// When the database doesn't answer.
    pub(crate) async fn entitlements(&self, organization: OrganizationId) -> Result<Entitlements> {
        let generation = self.publish().await?;
        let subscription = self.subscription(organization).await?;
        // A newer replica may know a plan that this one doesn't. Without its limits nothing may be allowed.
        let plan = self.catalogue.plan(&subscription.plan).ok_or_else(|| {
            Error::Bug(format!(
                "{organization} is on the plan `{}`, which this replica does not know",
                subscription.plan
            ))
        })?;
        Ok(Entitlements::of(&subscription, plan, generation))
    }
}
