//! From requests to what the use cases take.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use uuid::Uuid;
use weir_proto::billing::v1 as proto;
use weir_proto::billing::v1::window::Kind;
use weir_rpc::{Caller, Error as RpcError};
use weir_types::{OrganizationId, ReservationId, names};

use crate::domain::limit::{Limit, OnFailure};
use crate::domain::statement::Period;
use crate::domain::window::{CalendarUnit, Window, time_zone};
use crate::error::{Error, Result};

/// What is wrong with a field.
type Fault = (String, String);

pub(super) fn subscription(caller: &Caller, name: &str) -> std::result::Result<OrganizationId, RpcError> {
    let organization = names::parse_subscription(name).map_err(|error| RpcError::invalid("name", error.to_string()))?;
    caller.may_see(organization, name)?;
    Ok(organization)
}

pub(super) fn parent(caller: &Caller, name: &str) -> std::result::Result<OrganizationId, RpcError> {
    let organization =
        names::parse_organization(name).map_err(|error| RpcError::invalid("parent", error.to_string()))?;
    caller.may_see(organization, name)?;
    Ok(organization)
}

pub(super) fn plan(name: &str) -> Result<&str> {
    name.strip_prefix("plans/").ok_or_else(|| Error::invalid("plan", "expected a name of the form `plans/{plan}`"))
}

pub(super) fn page_size(size: i32) -> Result<u32> {
    weir_types::page_size(size, 50, 1_000).map_err(|error| Error::invalid("page_size", error.to_string()))
}

pub(super) fn period(request: &proto::GetStatementRequest) -> Result<Period> {
    let start = required_time("start_time", request.start_time)?;
    let end = required_time("end_time", request.end_time)?;
    Period::new(start, end).map_err(|text| Error::invalid("end_time", text))
}

pub(super) fn scan(
    caller: &Caller,
    request: &proto::ScanRatedEventsRequest,
) -> std::result::Result<(Option<OrganizationId>, Option<Uuid>), RpcError> {
    let organization = match request.organization.as_str() {
        "" => None,
        name => Some(caller.organization(name)?),
    };
    let after = match request.after.as_str() {
        "" => None,
        id => {
            let id: ReservationId = id.parse().map_err(|error| RpcError::invalid("after", format!("{error}")))?;
            Some(Uuid::from(id))
        }
    };
    Ok((organization, after))
}

/// Reads limits; what their fields mean together is checked where they are used.
pub(super) fn limits(limits: Vec<proto::Limit>) -> Result<Vec<Limit>> {
    let mut faults = Vec::new();
    let read: Vec<Limit> = limits
        .into_iter()
        .enumerate()
        .filter_map(|(i, message)| limit(&format!("overrides[{i}]"), message, &mut faults))
        .collect();
    if faults.is_empty() { Ok(read) } else { Err(Error::Invalid(faults)) }
}

fn limit(at: &str, message: proto::Limit, faults: &mut Vec<Fault>) -> Option<Limit> {
    let on_failure = match message.on_failure() {
        proto::OnFailure::Closed => Some(OnFailure::Closed),
        proto::OnFailure::Open => Some(OnFailure::Open),
        proto::OnFailure::Local => Some(OnFailure::Local),
        proto::OnFailure::Unspecified => {
            faults.push((format!("{at}.on_failure"), "must be CLOSED, OPEN or LOCAL".to_owned()));
            None
        }
    };
    let window = match message.window.and_then(|window| window.kind) {
        Some(kind) => window(kind).map_err(|text| faults.push((format!("{at}.window"), text))).ok(),
        None => {
            faults.push((format!("{at}.window"), "is missing".to_owned()));
            None
        }
    };
    Some(Limit {
        name: message.name,
        scope: message.scope,
        unit: message.unit,
        amount: message.amount,
        window: window?,
        on_failure: on_failure?,
        alert_percents: message.alert_percents,
    })
}

fn window(kind: Kind) -> Result<Window, String> {
    Ok(match kind {
        Kind::Rolling(span) => {
            Window::Rolling(Duration::try_from(span).map_err(|_| "must not be negative".to_owned())?)
        }
        Kind::Calendar(calendar) => {
            let unit = match calendar.unit() {
                proto::CalendarUnit::Minute => CalendarUnit::Minute,
                proto::CalendarUnit::Hour => CalendarUnit::Hour,
                proto::CalendarUnit::Day => CalendarUnit::Day,
                proto::CalendarUnit::Month => CalendarUnit::Month,
                proto::CalendarUnit::Unspecified => return Err("must have a unit".to_owned()),
            };
            Window::Calendar(unit, time_zone(&calendar.time_zone)?)
        }
        Kind::Anchored(anchored) => {
            let anchor = match anchored.anchor {
                Some(anchor) => Some(time(anchor).ok_or("has an anchor that is not a time")?),
                None => None,
            };
            Window::Anchored(anchor, time_zone(&anchored.time_zone)?)
        }
        Kind::Lifetime(_) => Window::Lifetime,
        Kind::Concurrent(_) => Window::Concurrent,
    })
}

fn required_time(field: &str, timestamp: Option<Timestamp>) -> Result<DateTime<Utc>> {
    let timestamp = timestamp.ok_or_else(|| Error::invalid(field, "is missing"))?;
    time(timestamp).ok_or_else(|| Error::invalid(field, "is not a time"))
}

fn time(timestamp: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}
