//! The secret that signs an organisation's webhooks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_proto::broker::v1 as proto;
use weir_types::names;

use crate::api::extract::{ApiJson, By, NoQuery};
use crate::api::problem::Problem;
use crate::facade::Facade;

/// How to replace the secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateWebhookSecret {
    /// How long the old secret signs as well, at most 30 days; 0 ends it at once.
    overlap_seconds: u32,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookSecret {
    /// `whsec_…`; shown here once, and nowhere else.
    secret: String,
}

/// Makes a new secret for the organisation's webhooks. The answer is the only place where it is ever shown.
#[utoipa::path(
    post, path = "/api/v1/webhook-secret/rotate", operation_id = "rotateWebhookSecret", tag = "jobs",
    request_body = RotateWebhookSecret,
    responses(
        (status = 200, description = "The secret.", body = WebhookSecret),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn rotate(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<RotateWebhookSecret>,
) -> Result<Json<WebhookSecret>, Problem> {
    let request = proto::RotateWebhookSecretRequest {
        parent: names::organization(&caller.organization),
        overlap: Some(prost_types::Duration { seconds: asked.overlap_seconds.into(), nanos: 0 }),
    };
    let made = facade
        .as_caller(&caller, request, async |request| facade.jobs.clone().rotate_webhook_secret(request).await)
        .await?;
    Ok(Json(WebhookSecret { secret: made.secret }))
}
