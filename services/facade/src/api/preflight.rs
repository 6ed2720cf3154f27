//! Whether a call would be let in, asked before it is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use weir_proto::broker::v1 as proto;
use weir_types::NanoUsd;

use super::extract::{By, LargeJson, NoQuery};
use super::jobs::Operation;
use super::problem::Problem;
use crate::facade::Facade;
use crate::network;
use crate::refusal::Class;

/// The call in question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// What `body` is for.
    operation: Operation,
    /// As the operation's own route takes it.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// What of the product it is for, as `weir-feature` would say it.
    #[serde(default)]
    feature: String,
}

/// What it would meet with now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preflight {
    /// Plan, load and limits let it in. A provider without room is no reason against it: such calls wait in line.
    allowed: bool,
    /// For programs, if it is not allowed: `model_not_allowed`, `quota_exceeded`.
    reason: Option<String>,
    /// The same for people.
    message: Option<String>,
    /// The limits that refuse.
    limits: Vec<String>,
    /// When to try again, if waiting helps.
    retry_after_seconds: Option<i64>,
    /// Who would be asked first.
    provider: String,
    model: String,
    /// The most that it can cost; 0 by a key of the caller's own.
    cost_nano_usd: i64,
    /// In US dollars.
    cost_usd: String,
}

/// Says whether a call would be let in now, why not, and what it can cost. Nothing is reserved, counted or sent.
#[utoipa::path(
    post, path = "/api/v1/preflight", operation_id = "preflight", tag = "limits", request_body = Call,
    responses(
        (status = 200, description = "Whether it would be let in.", body = Preflight),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn ask(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    request: axum::extract::Request,
) -> Result<Json<Preflight>, Problem> {
    let client_ip = network::client(request.extensions(), request.headers(), &facade.trusted_proxies);
    let LargeJson(asked): LargeJson<Call> = LargeJson::read(request, &facade).await?;
    let request = proto::InvokeRequest {
        operation: proto::Operation::from(asked.operation).into(),
        body: Bytes::from(Box::<str>::from(asked.body).into_string()),
        client_ip: client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        feature: asked.feature,
        ..proto::InvokeRequest::default()
    };
    let request = proto::PreflightRequest { request: Some(request) };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.broker.clone().preflight(request).await).await?;
    Ok(Json(answer.into()))
}

impl From<proto::PreflightResponse> for Preflight {
    fn from(answer: proto::PreflightResponse) -> Self {
        let refused = !answer.allowed;
        Self {
            allowed: answer.allowed,
            reason: refused.then(|| Class::Reason(answer.reason()).code()),
            message: refused.then_some(answer.message),
            limits: answer.refused_by,
            retry_after_seconds: answer.retry_after.map(|wait| wait.seconds + i64::from(wait.nanos > 0)),
            provider: answer.provider,
            model: answer.model,
            cost_nano_usd: answer.cost_nano_usd,
            cost_usd: NanoUsd(answer.cost_nano_usd).to_usd_string(),
        }
    }
}
