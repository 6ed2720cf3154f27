//! People and what they may do.

use chrono::{DateTime, Utc};
use weir_types::{OrganizationId, Scope, ScopeSet, UserId};

use super::DisplayName;

/// What a user may do in their organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Uses the product.
    Member,
    /// Manages users and keys, and sees everything of the organisation.
    Admin,
}

impl Role {
    /// The scopes that come with the role.
    #[must_use]
    pub(crate) fn scopes(self) -> ScopeSet {
        match self {
            Self::Member => {
                [Scope::AiInvoke, Scope::ModelsRead, Scope::UsageRead, Scope::QuotaRead].into_iter().collect()
            }
            Self::Admin => ScopeSet::all(),
        }
    }

    /// As it is stored.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// Reads what is stored.
    #[must_use]
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        [Self::Member, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// A person in an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// Their id.
    pub(crate) id: UserId,
    /// Their address, as it was given.
    pub(crate) email: String,
    /// Their name; may be empty.
    pub(crate) display_name: DisplayName,
    /// What they may do.
    pub(crate) role: Role,
    /// When they were created.
    pub(crate) created: DateTime<Utc>,
    /// Since when nothing of theirs works.
    pub(crate) disabled: Option<DateTime<Utc>>,
}
