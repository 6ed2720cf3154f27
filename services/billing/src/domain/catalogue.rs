//! Plans on offer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weir_types::NanoUsd;

use super::limit::Limit;

/// A plan on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Unique in the catalogue.
    pub(crate) name: String,
    /// For people.
    pub(crate) display_name: String,
    /// Of the file that it came from.
    pub(crate) version: String,
    /// Per month.
    pub(crate) price: NanoUsd,
    /// What it allows.
    pub(crate) limits: Vec<Limit>,
    /// Patterns of model names; `*` stands for any text.
    pub(crate) models: Vec<String>,
    /// Higher goes first where requests wait.
    pub(crate) priority: i32,
    /// Calls go by callers' own keys of providers, never by the platform's.
    pub(crate) own_keys_only: bool,
    /// Patterns of the features that calls may be for; none: all.
    pub(crate) features: Vec<String>,
}

/// All plans on offer, and which one holds for organisations that were never put on one.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    plans: BTreeMap<String, Plan>,
    default_plan: String,
}

impl Catalogue {
    /// A catalogue of `plans`, whose names are unique; `None` when the default plan is not among them.
    #[must_use]
    pub(crate) fn new(plans: Vec<Plan>, default_plan: &str) -> Option<Self> {
        let plans: BTreeMap<String, Plan> = plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect();
        plans.contains_key(default_plan).then(|| Self { plans, default_plan: default_plan.to_owned() })
    }

    /// The plans by name.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values()
    }

    /// The plan of this name.
    #[must_use]
    pub(crate) fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.get(name)
    }

    /// The name of the plan of organisations that were never put on one.
    #[must_use]
    pub(crate) fn default_plan(&self) -> &str {
        &self.default_plan
    }

    /// The plans' names, for messages.
    #[must_use]
    pub(crate) fn names(&self) -> String {
        self.plans.keys().cloned().collect::<Vec<_>>().join(", ")
    }

    /// Everything that decides entitlements, as text: two catalogues that entitle alike have the same.
    #[must_use]
    pub(crate) fn content(&self) -> String {
        let mut text = format!("default {}\n", self.default_plan);
        for plan in self.plans.values() {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{plan:?}");
        }
        text
    }
}
