//! What is left of the caller's limits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::quota::v1 as proto;
use weir_types::names;

use super::extract::{By, NoQuery};
use super::problem::Problem;
use crate::facade::Facade;

/// One limit at this moment.
#[derive(Serialize, ToSchema)]
pub(crate) struct Limit {
    /// The limit's name in the plan.
    name: String,
    /// What it counts, for instance `request`, `token`, `nano_usd`.
    unit: String,
    /// Whom it counts by, for instance `organization`, `user`, `api_key`.
    scope: String,
    limit: i64,
    /// Committed and held.
    used: i64,
    /// Of `used`, held by calls that are not settled yet.
    held: i64,
    remaining: i64,
    /// Until all of it is free again; absent where it never resets.
    reset_after_seconds: Option<i64>,
}

/// What is left.
#[derive(Serialize, ToSchema)]
pub(crate) struct Balance {
    limits: Vec<Limit>,
}

/// Every limit that applies to the caller, with what is used, held and left.
#[utoipa::path(
    get, path = "/api/v1/balance", operation_id = "getBalance", tag = "limits",
    responses(
        (status = 200, description = "The limits.", body = Balance),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<Balance>, Problem> {
    let organization = names::organization(&caller.organization);
    let subject = proto::Subject {
        user: caller.user.map(|user| names::user(&caller.organization, &user)).unwrap_or_default(),
        api_key: caller.api_key.map(|key| names::api_key(&caller.organization, &key)).unwrap_or_default(),
        organization,
        ..proto::Subject::default()
    };
    let request = proto::GetBalanceRequest { subject: Some(subject) };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.quota.clone().get_balance(request).await).await?;
    Ok(Json(Balance { limits: answer.limits.into_iter().map(Limit::from).collect() }))
}

impl From<proto::LimitState> for Limit {
    fn from(state: proto::LimitState) -> Self {
        Self {
            remaining: state.cap.saturating_sub(state.used).max(0),
            reset_after_seconds: state.reset_after.map(|after| after.seconds + i64::from(after.nanos > 0)),
            name: state.limit,
            unit: state.unit,
            scope: state.scope,
            limit: state.cap,
            used: state.used,
            held: state.held,
        }
    }
}
