//! A caller whose credential has been accepted.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use weir_proto::auth::v1::PrincipalToken;
use weir_rpc::Bearer;
use weir_types::{ApiKeyId, OrganizationId, UserId, names};

use super::{Hash, header};
use crate::refusal::Refusal;

/// A token is renewed when it has less than this left, or a quarter of its life if that is less.
const AHEAD: TimeDelta = TimeDelta::seconds(60);
/// A token that ends so soon is not sent any more: it would end on its way.
const MARGIN: TimeDelta = TimeDelta::seconds(2);
/// Between two attempts to renew.
const AGAIN: TimeDelta = TimeDelta::seconds(2);

/// Who calls, and the token that says so to the services.
pub(crate) struct Caller {
    pub(crate) bearer: Bearer,
    pub(crate) organization: OrganizationId,
    pub(crate) user: Option<UserId>,
    pub(crate) api_key: Option<ApiKeyId>,
    credential: Hash,
    ends: DateTime<Utc>,
    /// When to renew, in milliseconds since 1970.
    renew_at: AtomicI64,
}

impl Caller {
    /// From auth's answer; an error says what is wrong with it.
    pub(super) fn exchanged(token: PrincipalToken, credential: Hash, now: DateTime<Utc>) -> Result<Self, String> {
        let bearer = Bearer::new(&token.token).ok_or("auth answered a token that is no header")?;
        let ends = token
            .expire_time
            .and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or_default()));
        let ends = ends.ok_or("auth answered a token without an end")?;
        let organization = names::parse_organization(&token.organization).map_err(|error| error.to_string())?;
        let ahead = AHEAD.min((ends - now) / 4);
        Ok(Self {
            bearer,
            organization,
            user: names::parse_user(&token.user).ok().map(|(_, user)| user),
            api_key: names::parse_api_key(&token.api_key).ok().map(|(_, key)| key),
            credential,
            ends,
            renew_at: AtomicI64::new((ends - ahead).timestamp_millis()),
        })
    }

    /// A principal token that the caller brought along. The services verify it; what is read here without verifying
    /// only completes resource names.
    pub(super) fn with_token(token: &str, credential: Hash) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Claims {
            org: OrganizationId,
            user: Option<UserId>,
            key: Option<ApiKeyId>,
        }
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let payload = payload.ok_or_else(header::malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| header::malformed())?;
        let bearer = Bearer::new(token).ok_or_else(header::malformed)?;
        let Claims { org, user, key } = claims;
        Ok(Self {
            bearer,
            organization: org,
            user,
            api_key: key,
            credential,
            ends: DateTime::UNIX_EPOCH,
            renew_at: AtomicI64::new(i64::MAX),
        })
    }

    pub(super) fn credential(&self) -> &Hash {
        &self.credential
    }

    pub(super) fn is_valid(&self, now: DateTime<Utc>) -> bool {
        now + MARGIN < self.ends
    }

    /// Whether it is time, told to one of those who ask.
    pub(super) fn is_to_be_renewed(&self, now: DateTime<Utc>) -> bool {
        let at = self.renew_at.load(Ordering::Relaxed);
        let next = (now + AGAIN).timestamp_millis();
        now.timestamp_millis() >= at
            && self.renew_at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("organization", &self.organization)
            .field("user", &self.user)
            .field("api_key", &self.api_key)
            .finish_non_exhaustive()
    }
}
