//! Plans on offer, and the caller's own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::billing::v1 as proto;
use weir_types::{NanoUsd, names};

use super::convert::{id, required};
use super::extract::{By, NoQuery};
use super::problem::Problem;
use crate::facade::Facade;

/// A plan on offer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Plan {
    id: String,
    display_name: String,
    price_nano_usd: i64,
    /// Per month.
    price_usd: String,
    /// Patterns of model names.
    models: Vec<String>,
    /// Patterns of the features that calls may be for; empty: all.
    features: Vec<String>,
}

/// The plans on offer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Plans {
    plans: Vec<Plan>,
}

/// The organisation's plan.
#[derive(Serialize, ToSchema)]
pub(crate) struct Subscription {
    plan_id: String,
    start_time: DateTime<Utc>,
}

/// The plans on offer.
#[utoipa::path(
    get, path = "/api/v1/plans", operation_id = "listPlans", tag = "billing",
    responses(
        (status = 200, description = "The plans.", body = Plans),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<Plans>, Problem> {
    let request = proto::ListPlansRequest {};
    let answer =
        facade.as_caller(&caller, request, async |request| facade.billing.clone().list_plans(request).await).await?;
    let plans = answer.plans.into_iter().map(|plan| Plan {
        id: id(&plan.name),
        display_name: plan.display_name,
        price_nano_usd: plan.price_nano_usd,
        price_usd: NanoUsd(plan.price_nano_usd).to_usd_string(),
        models: plan.models,
        features: plan.features,
    });
    Ok(Json(Plans { plans: plans.collect() }))
}

/// The organisation's plan.
#[utoipa::path(
    get, path = "/api/v1/subscription", operation_id = "getSubscription", tag = "billing",
    responses(
        (status = 200, description = "The plan.", body = Subscription),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn subscription(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<Subscription>, Problem> {
    let request = proto::GetSubscriptionRequest { name: names::subscription(&caller.organization) };
    let answer = facade
        .as_caller(&caller, request, async |request| facade.billing.clone().get_subscription(request).await)
        .await?;
    Ok(Json(Subscription { plan_id: id(&answer.plan), start_time: required(answer.start_time)? }))
}
