//! Requests.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;
use weir_proto::billing::v1 as billing;
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1 as proto;
use weir_rpc::Caller;
use weir_types::ReservationId;

use crate::app::{Extension, Request, Settle};
use crate::domain::shared::SharedScope;
use crate::domain::{Amounts, Limit, Scope, Subject, Window};
use crate::error::Error;

type Result<T> = std::result::Result<T, weir_rpc::Error>;

const MAX_CONTEXT: usize = 4_096;
const MAX_LIMITS: usize = 8;
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

pub(super) fn reservation(field: &'static str, id: &str) -> Result<ReservationId> {
    let id: ReservationId = id.parse().map_err(|_| weir_rpc::Error::invalid(field, "is no UUID"))?;
    if id.as_uuid().get_version_num() == 7 { Ok(id) } else { Err(weir_rpc::Error::invalid(field, "is no UUIDv7")) }
}

pub(super) fn amounts(field: &'static str, amounts: &[Amount]) -> Result<Amounts> {
    let amounts = Amounts::new(amounts.iter().map(|amount| (amount.unit.as_str(), amount.value)));
    Ok(amounts.map_err(|error| Error::Invalid(field, error.to_string()))?)
}

pub(super) fn lease(lease: Option<&ProtoDuration>) -> Result<Duration> {
    let lease = lease.and_then(|lease| Duration::try_from(*lease).ok());
    lease
        .filter(|lease| LEASE.contains(lease))
        .ok_or_else(|| weir_rpc::Error::invalid("lease", "must be from 1 s to 1 h"))
}

pub(super) fn subject(caller: &Caller, subject: Option<&proto::Subject>) -> Result<Subject> {
    let subject = subject.ok_or_else(|| weir_rpc::Error::invalid("subject", "is missing"))?;
    let organization = caller.organization(&subject.organization)?;
    let labels = subject.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let proto::Subject { user, api_key, ip, visitor, .. } = subject;
    Ok(Subject::new(organization, user, api_key, ip, visitor, labels).map_err(Error::from)?)
}

fn context(context: &bytes::Bytes) -> Result<bytes::Bytes> {
    if context.len() > MAX_CONTEXT {
        return Err(weir_rpc::Error::invalid("context", "at most 4096 bytes"));
    }
    Ok(context.clone())
}

pub(super) fn reserve(caller: &Caller, request: &proto::ReserveRequest) -> Result<Request> {
    let (across, limits) = brought_limits(&request.limits)?;
    Ok(Request {
        id: reservation("reservation_id", &request.reservation_id)?,
        subject: subject(caller, request.subject.as_ref())?,
        amounts: amounts("amounts", &request.amounts)?,
        lease: lease(request.lease.as_ref())?,
        context: context(&request.context)?,
        limits,
        across,
    })
}

/// Limits that a request brings: few, and each such that its counter can be told from its number alone. Those across tenants, which
/// count by a key of a provider, and those of the tenant.
fn brought_limits(limits: &[billing::Limit]) -> Result<(Vec<Limit>, Vec<Limit>)> {
    let invalid = |message: String| weir_rpc::Error::invalid("limits", message);
    if limits.len() > MAX_LIMITS {
        return Err(invalid(format!("at most {MAX_LIMITS}")));
    }
    let limits = super::limits(limits).map_err(|error| invalid(error.to_string()))?;
    let is_across = |limit: &Limit| limit.scope.as_str() == SharedScope::ProviderKey.name();
    let (mut across, own): (Vec<_>, Vec<_>) = limits.into_iter().partition(is_across);
    for limit in &mut across {
        limit.scope = Scope::Shared(SharedScope::ProviderKey);
    }
    let stands_alone = |limit: &&Limit| match (&limit.scope, &limit.window) {
        (_, Window::Rolling(_)) | (Scope::Shared(_), Window::Concurrent) => true,
        (Scope::Label(_), Window::Calendar(_, zone)) => *zone == chrono_tz::UTC,
        _ => false,
    };
    match own.iter().chain(&across).find(|limit| !stands_alone(limit)) {
        Some(limit) => Err(invalid(format!("`{}` has a window that none has that is brought", limit.name))),
        None => Ok((across, own)),
    }
}

pub(super) fn extension(request: &proto::LeaseExtension) -> Result<Extension> {
    Ok(Extension {
        id: reservation("leases.reservation_id", &request.reservation_id)?,
        handle: request.handle.clone(),
        lease: lease(request.lease.as_ref())?,
        context: context(&request.context)?,
    })
}

/// An extension with amounts.
pub(super) fn growth(request: &proto::LeaseExtension) -> Result<(Extension, Amounts)> {
    Ok((extension(request)?, amounts("leases.amounts", &request.amounts)?))
}

pub(super) fn commit(caller: &Caller, request: &proto::CommitRequest) -> Result<Settle> {
    Ok(Settle {
        id: reservation("reservation_id", &request.reservation_id)?,
        organization: caller.organization(&request.organization)?,
        handle: request.handle.clone(),
        actuals: Some((amounts("actuals", &request.actuals)?, request.estimated)),
    })
}

pub(super) fn release(caller: &Caller, request: &proto::ReleaseRequest) -> Result<Settle> {
    Ok(Settle {
        id: reservation("reservation_id", &request.reservation_id)?,
        organization: caller.organization(&request.organization)?,
        handle: request.handle.clone(),
        actuals: None,
    })
}
