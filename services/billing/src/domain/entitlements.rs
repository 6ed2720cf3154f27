//! What an organisation may: its plan's limits and models, with its own overrides.

use chrono::{DateTime, Utc};
use weir_types::OrganizationId;

use super::catalogue::{Catalogue, Plan};
use super::limit::Limit;

/// An organisation's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Whose.
    pub(crate) organization: OrganizationId,
    /// The plan's name.
    pub(crate) plan: String,
    /// Since when; anchored windows count from here.
    pub(crate) start: DateTime<Utc>,
    /// Limits that replace the plan's of the same name, or stand beside them.
    pub(crate) overrides: Vec<Limit>,
    /// Grows with each change, over all organisations; 0 for one that was never put on a plan.
    pub(crate) version: i64,
}

impl Subscription {
    /// The subscription of an organisation that was never put on a plan: the default plan, since the organisation exists,
    /// which is what its id (a UUIDv7) says.
    #[must_use]
    pub(crate) fn of_unknown(organization: OrganizationId, catalogue: &Catalogue) -> Self {
        let born = organization.as_uuid().get_timestamp().and_then(|born| {
            let (seconds, nanos) = born.to_unix();
            DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
        });
        Self {
            organization,
            plan: catalogue.default_plan().to_owned(),
            start: born.unwrap_or(DateTime::UNIX_EPOCH),
            overrides: Vec::new(),
            version: 0,
        }
    }
}

/// What an organisation may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entitlements {
    /// Whose.
    pub(crate) organization: OrganizationId,
    /// The plan's name.
    pub(crate) plan: String,
    /// Grows with each change.
    pub(crate) version: i64,
    /// The plan's with the overrides; anchors filled in.
    pub(crate) limits: Vec<Limit>,
    /// Patterns of model names.
    pub(crate) models: Vec<String>,
    /// Higher goes first where requests wait.
    pub(crate) priority: i32,
    /// Calls go by callers' own keys of providers, never by the platform's.
    pub(crate) own_keys_only: bool,
    /// Patterns of the features that calls may be for; none: all.
    pub(crate) features: Vec<String>,
}

impl Entitlements {
    /// What `subscription` to `plan` gives, from a catalogue that is in force since `generation`.
    #[must_use]
    pub(crate) fn of(subscription: &Subscription, plan: &Plan, generation: i64) -> Self {
        let mut limits = plan.limits.clone();
        for own in &subscription.overrides {
            match limits.iter_mut().find(|limit| limit.name == own.name) {
                Some(limit) => *limit = own.clone(),
                None => limits.push(own.clone()),
            }
        }
        for limit in &mut limits {
            limit.window = limit.window.anchored_at(subscription.start);
        }
        Self {
            organization: subscription.organization,
            plan: plan.name.clone(),
            version: subscription.version.max(generation),
            limits,
            models: plan.models.clone(),
            priority: plan.priority,
            own_keys_only: plan.own_keys_only,
            features: plan.features.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use weir_types::NanoUsd;

    use super::*;
    use crate::domain::limit::OnFailure;
    use crate::domain::window::Window;

    fn limit(name: &str, amount: i64) -> Limit {
        Limit {
            name: name.to_owned(),
            scope: "organization".to_owned(),
            unit: "request".to_owned(),
            amount,
            window: Window::Anchored(None, Tz::UTC),
            on_failure: OnFailure::Open,
            alert_percents: Vec::new(),
        }
    }

    fn plan() -> Plan {
        Plan {
            name: "free".to_owned(),
            display_name: "Free".to_owned(),
            version: "1".to_owned(),
            price: NanoUsd::ZERO,
            limits: vec![limit("a", 1), limit("b", 2)],
            models: vec!["*".to_owned()],
            priority: 0,
            own_keys_only: false,
            features: Vec::new(),
        }
    }

    #[test]
    fn an_override_replaces_the_limit_of_its_name_or_stands_beside() {
        let catalogue = Catalogue::new(vec![plan()], "free").expect("has its default");
        let mut subscription = Subscription::of_unknown(OrganizationId::new_v7(), &catalogue);
        subscription.overrides = vec![limit("b", 20), limit("c", 3)];
        let entitlements = Entitlements::of(&subscription, &plan(), 7);
        let amounts: Vec<_> = entitlements.limits.iter().map(|limit| (limit.name.as_str(), limit.amount)).collect();
        assert_eq!(amounts, [("a", 1), ("b", 20), ("c", 3)]);
        assert!(
            entitlements.limits.iter().all(|limit| limit.window == Window::Anchored(Some(subscription.start), Tz::UTC))
        );
        assert_eq!(entitlements.version, 7);
    }

    #[test]
    fn an_organisation_that_nobody_put_on_a_plan_has_the_default_one_since_it_exists() {
        let catalogue = Catalogue::new(vec![plan()], "free").expect("has its default");
        let before = Utc::now();
        let subscription = Subscription::of_unknown(OrganizationId::new_v7(), &catalogue);
        assert_eq!(subscription.plan, "free");
        assert!((subscription.start - before).num_seconds().abs() < 5, "{subscription:?}");
        assert_eq!(subscription, Subscription::of_unknown(subscription.organization, &catalogue));
    }
}
