//! Soft alerts: limits that were used up to a percentage at which they warn.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::quota::v1 as proto;
use weir_rpc::Error;
use weir_types::names;

use super::convert::{id, instant, required};
use super::extract::{ApiQuery, By};
use super::page::Page;
use super::problem::Problem;
use crate::facade::Facade;

/// A limit was used up to a percentage. Each fires once per counter and period.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alert {
    /// Later ones have greater numbers.
    id: String,
    time: DateTime<Utc>,
    /// The limit's name in the plan.
    limit: String,
    /// What it counts, for instance `request`, `token`, `nano_usd`.
    unit: String,
    /// Whom it counts by, for instance `organization`, `user`, `api_key`.
    scope: String,
    /// Whose counter: a user's or API key's id, an address, a label's value. Absent for the organisation's own.
    subject: Option<String>,
    /// The percentage that was reached.
    percent: i32,
    /// The limit's amount then.
    amount: i64,
    /// Committed and held then.
    used: i64,
    /// Of `used`, held by calls that were not settled yet.
    held: i64,
    /// At 100: a call was refused that an unused limit would have admitted.
    refused: bool,
    /// Absent for rolling windows, lifetime limits and concurrency.
    period_start_time: Option<DateTime<Utc>>,
    period_end_time: Option<DateTime<Utc>>,
}

/// A page of alerts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alerts {
    alerts: Vec<Alert>,
    /// Empty on the last page.
    next_page_token: String,
}

/// Lists the organisation's soft alerts, newest first.
#[utoipa::path(
    get, path = "/api/v1/alerts", operation_id = "listAlerts", tag = "limits", params(Page),
    responses(
        (status = 200, description = "A page of alerts.", body = Alerts),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Alerts>, Problem> {
    let request = proto::ListAlertsRequest {
        parent: names::organization(&caller.organization),
        page_size: page.page_size,
        page_token: page.page_token,
    };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.quota.clone().list_alerts(request).await).await?;
    let alerts = answer.alerts.into_iter().map(Alert::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Alerts { alerts, next_page_token: answer.next_page_token }))
}

impl TryFrom<proto::Alert> for Alert {
    type Error = Error;

    fn try_from(alert: proto::Alert) -> Result<Self, Error> {
        Ok(Self {
            id: id(&alert.name),
            time: required(alert.fire_time)?,
            limit: alert.limit,
            unit: alert.unit,
            scope: alert.scope,
            subject: Some(alert.subject).filter(|subject| !subject.is_empty()),
            percent: alert.percent,
            amount: alert.cap,
            used: alert.used,
            held: alert.held,
            refused: alert.refused,
            period_start_time: instant(alert.period_start_time),
            period_end_time: instant(alert.period_end_time),
        })
    }
}
