//! From messages to the domain: every field that is wrong is named.

use std::str::FromStr as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use weir_proto::auth::v1 as proto;
use weir_rpc::Caller;
use weir_types::{ApiKeyId, OrganizationId, Scope, ScopeSet, UserId, names};

use crate::app::{NewApiKey, NewOrganization, NewUser};
use crate::domain::{Actor, DisplayName, Email, Fields, Invalid, Overlap, Password, Role};
use crate::error::{Error, Result};

pub(super) fn actor(caller: &Caller) -> Actor {
    match caller {
        Caller::Service(name) => Actor::Service(name.to_string()),
        Caller::Principal(principal) => Actor::Principal {
            organization: principal.organization,
            user: principal.user,
            api_key: principal.api_key,
            scopes: principal.scopes,
        },
    }
}

/// The organisation that `field` names, if the caller may act in it.
pub(super) fn organization(caller: &Caller, field: &'static str, name: &str) -> Result<OrganizationId> {
    let id = names::parse_organization(name).map_err(|error| Invalid::field(field, error))?;
    own(caller, id, name)
}

pub(super) fn user(caller: &Caller, name: &str) -> Result<(OrganizationId, UserId)> {
    let (organization, id) = names::parse_user(name).map_err(|error| Invalid::field("name", error))?;
    Ok((own(caller, organization, name)?, id))
}

pub(super) fn api_key(caller: &Caller, name: &str) -> Result<(OrganizationId, ApiKeyId)> {
    let (organization, id) = names::parse_api_key(name).map_err(|error| Invalid::field("name", error))?;
    Ok((own(caller, organization, name)?, id))
}

/// To a principal, what belongs to another organisation does not exist.
fn own(caller: &Caller, organization: OrganizationId, name: &str) -> Result<OrganizationId> {
    caller.may_see(organization, name).map_err(|_| Error::NotFound(name.to_owned()))?;
    Ok(organization)
}

pub(super) fn new_organization(request: proto::CreateOrganizationRequest) -> Result<NewOrganization> {
    let mut fields = Fields::default();
    let display_name = fields.read("display_name", DisplayName::required(&request.display_name));
    let id = match request.organization_id.as_str() {
        "" => Some(None),
        id => fields.read("organization_id", OrganizationId::from_str(id)).map(Some),
    };
    let new = display_name.zip(id).map(|(display_name, id)| NewOrganization { id, display_name });
    Ok(fields.finish(new)?)
}

pub(super) fn new_user(caller: &Caller, request: proto::CreateUserRequest) -> Result<NewUser> {
    let organization = organization(caller, "parent", &request.parent)?;
    let mut fields = Fields::default();
    let email = fields.read("email", Email::parse(&request.email));
    let display_name = fields.read("display_name", DisplayName::optional(&request.display_name));
    let role = match proto::Role::try_from(request.role) {
        Ok(proto::Role::Unspecified | proto::Role::Member) => Some(Role::Member),
        Ok(proto::Role::Admin) => Some(Role::Admin),
        Err(_) => fields.read("role", Err("is not a role that is known here")),
    };
    let password = if request.password.is_empty() {
        Some(None)
    } else {
        fields.read("password", Password::chosen(request.password)).map(Some)
    };
    let new = (|| {
        Some(NewUser { organization, email: email?, display_name: display_name?, role: role?, password: password? })
    })();
    Ok(fields.finish(new)?)
}

pub(super) fn new_api_key(caller: &Caller, request: &proto::CreateApiKeyRequest) -> Result<NewApiKey> {
    let organization = organization(caller, "parent", &request.parent)?;
    let mut fields = Fields::default();
    let display_name = fields.read("display_name", DisplayName::optional(&request.display_name));
    let user = match request.user.as_str() {
        "" => Some(None),
        name => match fields.read("user", names::parse_user(name)) {
            Some((of, id)) if of == organization => Some(Some(id)),
            Some(_) => fields.read("user", Err("must be a user of the organisation in `parent`")),
            None => None,
        },
    };
    let scopes = request.scopes.iter().map(|scope| scope.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
    let scopes = fields.read("scopes", scopes);
    if request.scopes.is_empty() {
        fields.refuse("scopes", "at least one is needed");
    }
    let expires = match request.expire_time {
        None => Some(None),
        Some(time) => fields.read("expire_time", instant(time)).map(Some),
    };
    let new = (|| {
        Some(NewApiKey { organization, display_name: display_name?, user: user?, scopes: scopes?, expires: expires? })
    })();
    Ok(fields.finish(new)?)
}

pub(super) fn overlap(overlap: Option<prost_types::Duration>) -> Result<Overlap> {
    let overlap = Duration::try_from(overlap.unwrap_or_default())
        .map_err(|_| "must not be negative")
        .and_then(Overlap::new)
        .map_err(|description| Invalid::field("overlap", description))?;
    Ok(overlap)
}

pub(super) fn sign_in(request: proto::SignInRequest) -> Result<(Email, Password)> {
    let mut fields = Fields::default();
    let email = fields.read("email", Email::parse(&request.email));
    let password = fields.read("password", Password::typed(request.password));
    Ok(fields.finish(email.zip(password))?)
}

/// Years that RFC 3339 can write, as the definition of `Timestamp` demands.
fn instant(time: Timestamp) -> Result<DateTime<Utc>, &'static str> {
    const YEAR_1: i64 = -62_135_596_800;
    const YEAR_9999_END: i64 = 253_402_300_799;
    u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000 && (YEAR_1..=YEAR_9999_END).contains(&time.seconds))
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .ok_or("is not a time between the years 1 and 9999")
}
