//! API keys and when they are good.

use std::time::Duration;

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, ScopeSet, UserId};

use super::{DisplayName, Role, SecretDigest};

/// A long-lived credential for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// Its id, which is part of its text.
    pub(crate) id: ApiKeyId,
    /// Its name for people; may be empty.
    pub(crate) display_name: DisplayName,
    /// Whom it acts for; nobody for a key of the organisation itself.
    pub(crate) user: Option<UserId>,
    /// What it may do.
    pub(crate) scopes: ScopeSet,
    /// When it was created.
    pub(crate) created: DateTime<Utc>,
    /// From when it is not good any more.
    pub(crate) expires: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub(crate) revoked: Option<DateTime<Utc>>,
    /// Its successor.
    pub(crate) rotated_to: Option<ApiKeyId>,
}

impl ApiKey {
    /// Whether it is of no use any more at `now`.
    #[must_use]
    pub(crate) fn has_ended(&self, now: DateTime<Utc>) -> bool {
        self.revoked.is_some() || self.expires.is_some_and(|end| end <= now)
    }

    /// When a successor made at `now` ends: it lives as long as this key was meant to.
    #[must_use]
    pub(crate) fn successor_expires(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.expires.map(|end| now + (end - self.created))
    }
}

/// How long a rotated key goes on beside its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overlap(Duration);

impl Overlap {
    const MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// At most 30 days.
    ///
    /// # Errors
    /// When it is longer.
    pub(crate) fn new(duration: Duration) -> Result<Self, &'static str> {
        if duration > Self::MAX { Err("must not be longer than 30 days") } else { Ok(Self(duration)) }
    }

    /// When a key that is rotated at `now` ends: after the overlap, or earlier if it would have ended earlier.
    #[must_use]
    pub(crate) fn end(self, now: DateTime<Utc>, expires: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let end = now + self.0;
        expires.map_or(end, |expires| expires.min(end))
    }

    /// Whether the old key ends at once.
    #[must_use]
    pub(crate) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// Why a credential is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed, no such key, or the secret part is wrong: one answer for all, so that it tells nothing.
    Unknown,
    /// It was good once.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// The user that it acts for, or that signs in, is disabled.
    OwnerDisabled,
}

/// What decides about a presented key, read in one query.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// Whom it acts for.
    pub(crate) user: Option<UserId>,
    /// What it was given.
    pub(crate) scopes: ScopeSet,
    /// The digest of its text.
    pub(crate) digest: Vec<u8>,
    /// From when it is not good any more.
    pub(crate) expires: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub(crate) revoked: bool,
    /// Whether its owner is disabled.
    pub(crate) owner_disabled: bool,
    /// The owner's role.
    pub(crate) owner_role: Option<Role>,
}

impl Standing {
    /// What whoever presents `digest` at `now` may do. Only who knows the secret learns why it is refused.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn accept(&self, digest: SecretDigest, now: DateTime<Utc>) -> Result<ScopeSet, Refusal> {
        if !digest.matches(&self.digest) {
            return Err(Refusal::Unknown);
        }
        if self.revoked {
            return Err(Refusal::Revoked);
        }
        if self.owner_disabled {
            return Err(Refusal::OwnerDisabled);
        }
        if self.expires.is_some_and(|end| end <= now) {
            return Err(Refusal::Expired);
        }
        Ok(match self.owner_role {
            Some(role) => within(self.scopes, role),
            None => self.scopes,
        })
    }
}

/// A key never does more than its owner may now, whatever it was given when it was made.
fn within(scopes: ScopeSet, role: Role) -> ScopeSet {
    scopes.iter().filter(|&scope| role.scopes().contains(scope)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use weir_types::Scope;

    use super::*;
    use crate::domain::KeySecret;

    fn standing() -> (Standing, SecretDigest) {
        let digest = KeySecret::generate(ApiKeyId::new_v7()).expect("random numbers").digest();
        let standing = Standing {
            organization: OrganizationId::new_v7(),
            user: None,
            scopes: [Scope::AiInvoke, Scope::UsersManage].into_iter().collect(),
            digest: digest.as_bytes().to_vec(),
            expires: None,
            revoked: false,
            owner_disabled: false,
            owner_role: None,
        };
        (standing, digest)
    }

    #[test]
    fn a_good_key_gets_its_scopes_within_its_owners_role() {
        let (mut key, digest) = standing();
        assert_eq!(key.accept(digest, Utc::now()), Ok(key.scopes));
        key.owner_role = Some(Role::Member);
        assert_eq!(key.accept(digest, Utc::now()), Ok([Scope::AiInvoke].into_iter().collect()));
    }

    #[test]
    fn a_key_ends_at_its_expiry_to_the_instant() {
        let (mut key, digest) = standing();
        let now = Utc::now();
        key.expires = Some(now);
        assert_eq!(key.accept(digest, now), Err(Refusal::Expired));
        assert!(key.accept(digest, now - TimeDelta::microseconds(1)).is_ok());
    }

    #[test]
    fn who_does_not_know_the_secret_does_not_learn_that_the_key_is_revoked() {
        let (mut key, digest) = standing();
        key.revoked = true;
        assert_eq!(key.accept(digest, Utc::now()), Err(Refusal::Revoked));
        assert_eq!(key.accept(SecretDigest::OF_NOTHING, Utc::now()), Err(Refusal::Unknown));
        key.revoked = false;
        key.owner_disabled = true;
        assert_eq!(key.accept(digest, Utc::now()), Err(Refusal::OwnerDisabled));
    }

    #[test]
    fn an_overlap_never_prolongs_a_key() {
        let now = Utc::now();
        let day = Duration::from_secs(86_400);
        let overlap = Overlap::new(day).expect("within 30 days");
        assert_eq!(overlap.end(now, None), now + day);
        assert_eq!(overlap.end(now, Some(now + TimeDelta::hours(1))), now + TimeDelta::hours(1));
        assert!(Overlap::new(day * 31).is_err());
    }
}
