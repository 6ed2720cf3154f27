//! Scopes: what a credential may do.

use std::fmt;
use std::str::FromStr;

/// Text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a scope: known are ai.invoke, models.read, usage.read, billing.read, quota.read, keys.manage, users.manage"
)]
pub struct UnknownScope(pub String);

/// One thing that a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scope {
    /// Call models.
    AiInvoke,
    /// List models.
    ModelsRead,
    /// Read usage records and sums.
    UsageRead,
    /// Read statements, the ledger and the subscription.
    BillingRead,
    /// Read limits and what is left of them.
    QuotaRead,
    /// Create, list, rotate and revoke API keys.
    KeysManage,
    /// Create, list and disable users.
    UsersManage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::AiInvoke,
        Self::ModelsRead,
        Self::UsageRead,
        Self::BillingRead,
        Self::QuotaRead,
        Self::KeysManage,
        Self::UsersManage,
    ];

    /// The scope's text, as in tokens and on the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AiInvoke => "ai.invoke",
            Self::ModelsRead => "models.read",
            Self::UsageRead => "usage.read",
            Self::BillingRead => "billing.read",
            Self::QuotaRead => "quota.read",
            Self::KeysManage => "keys.manage",
            Self::UsersManage => "users.manage",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope(text.chars().take(64).collect()))
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeSet(u16);

impl ScopeSet {
    /// Every scope.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in their fixed order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |&scope| self.contains(scope))
    }

    /// Reads a `scope` claim (RFC 8693, section 4.2): scopes with spaces between.
    ///
    /// # Errors
    /// When one of them is unknown.
    pub fn parse(claim: &str) -> Result<Self, UnknownScope> {
        claim.split_ascii_whitespace().map(str::parse).collect()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.iter().enumerate() {
            write!(f, "{}{scope}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_reads_back() {
        let set: ScopeSet = [Scope::UsersManage, Scope::AiInvoke].into_iter().collect();
        assert_eq!(set.to_string(), "ai.invoke users.manage");
        assert_eq!(ScopeSet::parse("users.manage  ai.invoke"), Ok(set));
        assert!(ScopeSet::parse("ai.invoke root").is_err());
        assert!(ScopeSet::all().contains_all(set) && !set.contains_all(ScopeSet::all()));
    }
}
