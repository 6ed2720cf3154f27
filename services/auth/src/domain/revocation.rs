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
    /// From when. In the future for a rotated key whose overlap is shorter than a token's life.
    pub(crate) effective: DateTime<Utc>,
    /// Until when a token that it stops could be alive.
    pub(crate) matters_until: DateTime<Utc>,
}

impl Revocation {
    /// Room for a token that is being made while its credential is revoked, and for clocks that differ.
    const MARGIN: Duration = Duration::from_secs(60);

    /// A revocation that holds from `effective`, where tokens live for `token_lifetime`.
    #[must_use]
    pub(crate) fn new(
        organization: OrganizationId,
        subject: Subject,
        effective: DateTime<Utc>,
        token_lifetime: Duration,
    ) -> Self {
        Self { organization, subject, effective, matters_until: effective + token_lifetime + Self::MARGIN }
    }
}
