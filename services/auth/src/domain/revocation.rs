//! What must no longer be accepted.

use std::time::Duration;

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, UserId};

/// Whose tokens are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Every token that the key was exchanged for.
    ApiKey(ApiKeyId),
    /// Every token of the user, by whatever credential.
    User(UserId),
}

/// A revocation, from when it holds until nothing is left that it could stop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Revocation {
    /// The tenant.
    pub(crate) organization: OrganizationId,
    /// Whose tokens.
    pub(crate) subject: Subject,
    /// From when.
    pub(crate) effective: DateTime<Utc>,
    /// Whether it was decided before it holds: for a rotated key whose overlap is shorter than a token's life.
    pub(crate) ahead: bool,
    /// Until when a token that it stops could be alive.
    pub(crate) matters_until: DateTime<Utc>,
}

impl Revocation {
    /// Room for a token that is being made while its credential is revoked, and for clocks that differ.
    const MARGIN: Duration = Duration::from_secs(60);

    /// One that holds as soon as it is heard of, where tokens live for `token_lifetime`.
    #[must_use]
    pub(crate) fn at_once(
        organization: OrganizationId,
        subject: Subject,
        now: DateTime<Utc>,
        token_lifetime: Duration,
    ) -> Self {
        let matters_until = now + token_lifetime + Self::MARGIN;
        Self { organization, subject, effective: now, ahead: false, matters_until }
    }

    /// One that holds from `effective`, and not before.
    #[must_use]
    pub(crate) fn ahead(
        organization: OrganizationId,
        subject: Subject,
        effective: DateTime<Utc>,
        token_lifetime: Duration,
    ) -> Self {
        Self { ahead: true, ..Self::at_once(organization, subject, effective, token_lifetime) }
    }

    /// Whether it holds. What holds at once is not compared with a clock: the clock of the replica that wrote it may be
    /// ahead of this one.
    #[must_use]
    pub(crate) fn holds(&self, now: DateTime<Utc>) -> bool {
        !self.ahead || self.effective <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_at_once_holds_for_a_clock_that_is_behind_too() {
        let now = Utc::now();
        let behind = now - Duration::from_secs(5);
        let (organization, subject) = (OrganizationId::new_v7(), Subject::User(UserId::new_v7()));
        let life = Duration::from_secs(300);
        assert!(Revocation::at_once(organization, subject, now, life).holds(behind));
        let later = Revocation::ahead(organization, subject, now, life);
        assert!(!later.holds(behind) && later.holds(now));
    }
}
