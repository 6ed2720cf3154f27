//! Soft alerts.

use prost_types::Timestamp;
use weir_proto::quota::v1 as proto;
use weir_rpc::Caller;
use weir_types::{OrganizationId, names, page_size};

use super::render;
use crate::app::Watched;
use crate::domain::Millis;
use crate::storage::alerts::Fired;

type Result<T> = std::result::Result<T, weir_rpc::Error>;

/// Whose alerts, and how many.
pub(super) fn page(caller: &Caller, request: &proto::ListAlertsRequest) -> Result<(OrganizationId, u32)> {
    let organization = names::parse_organization(&request.parent)
        .map_err(|error| weir_rpc::Error::invalid("parent", error.to_string()))?;
    caller.may_see(organization, &request.parent)?;
    let size = page_size(request.page_size, 50, 1_000)
        .map_err(|error| weir_rpc::Error::invalid("page_size", error.to_string()))?;
    Ok((organization, size))
}

/// Whose alerts, and after which one.
pub(super) fn watch(
    caller: &Caller,
    request: &proto::WatchAlertsRequest,
) -> Result<(Option<OrganizationId>, Option<i64>)> {
    let organization = match request.organization.as_str() {
        "" => None,
        name => Some(caller.organization(name)?),
    };
    let position = match request.position.as_str() {
        "" => None,
        text => {
            let position = text.parse().ok().filter(|position| *position >= 0);
            Some(position.ok_or_else(|| weir_rpc::Error::invalid("position", "is none that an answer had"))?)
        }
    };
    Ok((organization, position))
}

pub(super) fn watched(watched: Watched) -> proto::WatchAlertsResponse {
    proto::WatchAlertsResponse { alert: watched.alert.map(alert), position: watched.position.to_string() }
}

pub(super) fn alert(fired: Fired) -> proto::Alert {
    let (limit, unit, scope) = fired.limit;
    let instant =
        |pick: fn((Millis, Millis)) -> Millis| -> Option<Timestamp> { fired.period.map(pick).map(render::timestamp) };
    proto::Alert {
        name: format!("{}/alerts/{}", names::organization(&fired.organization), fired.id),
        limit,
        unit,
        scope,
        subject: fired.subject,
        percent: fired.percent.into(),
        cap: fired.cap,
        used: fired.used,
        held: fired.held,
        refused: fired.refused,
        fire_time: Some(render::instant(fired.at)),
        period_start_time: instant(|(start, _)| start),
        period_end_time: instant(|(_, end)| end),
    }
}
