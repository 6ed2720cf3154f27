//! `service_tier`: at which of its prices a request lets its provider serve it.

use serde_json::value::RawValue;
use weir_types::price::TIERS;

/// What a request says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ServiceTier {
    /// Nothing: the provider's own configuration decides.
    #[default]
    Unsaid,
    /// The usual prices alone.
    Usual,
    /// This one of [`TIERS`]; the usual prices where the provider has no room for it.
    Named(&'static str),
    /// Whichever the provider chooses.
    Any,
}

impl ServiceTier {
    /// As a request says it. What nobody here knows can be any.
    pub(super) fn of(raw: Option<&RawValue>) -> Self {
        raw.map_or(Self::Unsaid, |raw| Self::named(raw.get().trim_matches('"')))
    }

    /// The tier of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "null" => Self::Unsaid,
            "default" | "standard" | "standard_only" => Self::Usual,
            name => TIERS.into_iter().find(|tier| *tier == name).map_or(Self::Any, Self::Named),
        }
    }

    /// Whether the provider may serve it in `tier`; `unsaid` is what it makes of requests that say nothing.
    pub(crate) fn allows(self, tier: &str, unsaid: Self) -> bool {
        match (self, unsaid) {
            (Self::Unsaid, Self::Unsaid) | (Self::Usual, _) => false,
            (Self::Unsaid, unsaid) => unsaid.allows(tier, Self::Usual),
            (Self::Named(named), _) => named == tier,
            (Self::Any, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_says_nothing_is_served_as_the_provider_is_configured() {
        let allows = |name, unsaid| ServiceTier::named(name).allows("priority", ServiceTier::named(unsaid));
        assert!(allows("priority", "default") && allows("auto", "default") && allows("of 2031", "default"));
        assert!(!allows("default", "auto") && !allows("standard_only", "auto") && !allows("flex", "auto"));
        assert!(allows("null", "auto") && allows("null", "priority"));
        assert!(!allows("null", "default") && !allows("null", "flex"));
    }
}
