//! Limits across tenants: who they count by, and the account that all quota processes draw from.
//!
//! Each limit and value (a provider's name, say) has one account in the fast store. A process holds a *slice* of it: an amount that
//! the account counts as gone and that the process gives out without asking. What it has given out it reports by reservation, so
//! that everything the account does is idempotent by the reservation's id, whatever is repeated, lost or overtaken. See
//! `docs/decisions/0007-escrow-slices.md`.

pub mod account;
pub mod leases;
mod round;

use std::sync::Arc;

use super::LimitId;

pub use account::{Account, Sums};
pub use leases::{LeaseAccount, LeaseReply, LeaseRound, Seat};
pub use round::{Answer, Ended, Ending, HolderId, Measure, Reply, Round, Terms, Use};

/// By what a limit across tenants counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedScope {
    /// Everything together.
    Product,
    /// Each plan.
    Plan,
    /// Each provider: the request's label `provider`.
    Provider,
    /// Each key of a provider: the request's label `provider_key`.
    ProviderKey,
}

impl SharedScope {
    /// As the configuration spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Plan => "plan",
            Self::Provider => "provider",
            Self::ProviderKey => "provider_key",
        }
    }

    /// As it stands in Postgres, apart from every scope that a tenant's limit can have.
    #[must_use]
    pub const fn stored(self) -> &'static str {
        match self {
            Self::Product => "shared:product",
            Self::Plan => "shared:plan",
            Self::Provider => "shared:provider",
            Self::ProviderKey => "shared:provider_key",
        }
    }

    /// Reads [`stored`](Self::stored) back.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Product, Self::Plan, Self::Provider, Self::ProviderKey].into_iter().find(|scope| scope.stored() == text)
    }
}

/// Which account: the limit and the value that it counts by (empty for the whole product).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// Of which limit.
    pub limit: LimitId,
    /// Whose: a plan, a provider, a key.
    pub value: Arc<str>,
}
