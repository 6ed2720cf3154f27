//! From the domain to messages.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use weir_proto::auth::v1 as proto;
use weir_types::{Scope, ScopeSet, names};

use crate::app::FreshKey;
use crate::domain::{ApiKey, KeySecret, Organization, PrincipalToken, PublicKey, Role, Subject, User};
use crate::revocation_feed::Signal;

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

fn scopes(scopes: ScopeSet) -> Vec<String> {
    scopes.iter().map(Scope::as_str).map(str::to_owned).collect()
}

pub(super) fn organization(organization: &Organization) -> proto::Organization {
    proto::Organization {
        name: names::organization(&organization.id),
        display_name: organization.display_name.as_str().to_owned(),
        create_time: Some(timestamp(organization.created)),
    }
}

pub(super) fn user(user: &User) -> proto::User {
    let role = match user.role {
        Role::Member => proto::Role::Member,
        Role::Admin => proto::Role::Admin,
    };
    proto::User {
        name: names::user(&user.organization, &user.id),
        email: user.email.clone(),
        display_name: user.display_name.as_str().to_owned(),
        role: role.into(),
        disabled: user.disabled.is_some(),
        create_time: Some(timestamp(user.created)),
    }
}

pub(super) fn api_key(key: &ApiKey) -> proto::ApiKey {
    proto::ApiKey {
        name: names::api_key(&key.organization, &key.id),
        display_name: key.display_name.as_str().to_owned(),
        user: key.user.map(|user| names::user(&key.organization, &user)).unwrap_or_default(),
        scopes: scopes(key.scopes),
        prefix: KeySecret::prefix(key.id),
        create_time: Some(timestamp(key.created)),
        expire_time: key.expires.map(timestamp),
        revoke_time: key.revoked.map(timestamp),
        rotated_to: key.rotated_to.map(|id| names::api_key(&key.organization, &id)).unwrap_or_default(),
    }
}

pub(super) fn fresh_key(fresh: &FreshKey) -> proto::CreateApiKeyResponse {
    proto::CreateApiKeyResponse { api_key: Some(api_key(&fresh.key)), secret: fresh.secret.expose().to_owned() }
}

pub(super) fn token(token: PrincipalToken) -> proto::PrincipalToken {
    let claims = token.claims;
    let organization = claims.organization;
    proto::PrincipalToken {
        token: token.text,
        expire_time: Some(timestamp(claims.expires)),
        organization: names::organization(&organization),
        user: claims.user.map(|user| names::user(&organization, &user)).unwrap_or_default(),
        api_key: claims.api_key.map(|key| names::api_key(&organization, &key)).unwrap_or_default(),
        scopes: scopes(claims.scopes),
    }
}

pub(super) fn signing_keys(keys: Vec<PublicKey>) -> proto::SigningKeys {
    let keys = keys
        .into_iter()
        .map(|key| proto::SigningKey { key_id: key.id, public_key: key.bytes.to_vec().into(), current: key.current })
        .collect();
    proto::SigningKeys { keys }
}

pub(super) fn signal(signal: &Signal) -> proto::Revocation {
    use proto::revocation::Subject as Wire;
    let (subject, time) = match signal {
        Signal::Alive(time) => (Wire::Heartbeat(()), *time),
        Signal::Revoked(revocation) => {
            let subject = match revocation.subject {
                Subject::ApiKey(id) => Wire::ApiKey(names::api_key(&revocation.organization, &id)),
                Subject::User(id) => Wire::User(names::user(&revocation.organization, &id)),
            };
            (subject, revocation.effective)
        }
    };
    proto::Revocation { subject: Some(subject), revoke_time: Some(timestamp(time)) }
}
