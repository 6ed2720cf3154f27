//! Puts an organisation on a plan.

use weir_types::OrganizationId;

use super::Billing;
use crate::domain::entitlements::Subscription;
use crate::domain::limit::{Limit, MAX_LIMITS, faults_of};
use crate::error::{Error, Result};
use crate::storage::{self, subscriptions};

impl Billing {
    /// Puts an organisation on a plan from now on, with overrides. On the plan that it is on already it keeps its start; what
    /// changes nothing is no change.
    ///
    /// # Errors
    /// When there is no such plan, an override is not sound, or the database doesn't answer.
    pub(crate) async fn set_subscription(
        &self,
        organization: OrganizationId,
        plan: &str,
        overrides: Vec<Limit>,
    ) -> Result<Subscription> {
        self.publish().await?;
        self.check(plan, &overrides)?;
        let now = self.clock.now();
        let mut tx = self.database.begin().await?;
        // First of all: what is read next is what no other change is about to replace.
        subscriptions::lock_clock(&mut tx).await?;
        let known = subscriptions::get(&mut tx, organization).await?;
        let before = known.clone().unwrap_or_else(|| Subscription::of_unknown(organization, &self.catalogue));
        if known.is_some() && before.plan == plan && before.overrides == overrides {
            return Ok(before);
        }
        let start = if before.plan == plan { before.start } else { now };
        let version = subscriptions::tick(&mut tx).await?;
        let after = Subscription { organization, plan: plan.to_owned(), start, overrides, version };
        subscriptions::put(&mut tx, &after, now).await?;
        storage::commit(tx).await?;
        tracing::info!(%organization, plan, overrides = after.overrides.len(), "subscription changed");
        Ok(after)
    }

    fn check(&self, plan: &str, overrides: &[Limit]) -> Result<()> {
        let mut faults = Vec::new();
        if self.catalogue.plan(plan).is_none() {
            let text = format!("there is no plan `{plan}`; there are {}", self.catalogue.names());
            faults.push(("plan".to_owned(), text));
        }
        if overrides.len() > MAX_LIMITS {
            faults.push(("overrides".to_owned(), format!("must be at most {MAX_LIMITS}")));
        }
        for (index, (field, text)) in faults_of(overrides) {
            faults.push((format!("overrides[{index}].{field}"), text));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
    }
}
