//! Sign-in.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_proto::auth::v1::SignInRequest;
use weir_rpc::Failure;

use super::convert::{id, optional_id, required};
use super::extract::{ApiJson, NoQuery};
use super::problem::Problem;
use crate::facade::Facade;
use crate::refusal::Refusal;

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    email: String,
    #[schema(format = Password)]
    password: String,
}

/// A short-lived token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Token {
    /// Send it as `authorization: Bearer …`.
    token: String,
    expire_time: DateTime<Utc>,
    organization_id: String,
    user_id: Option<String>,
    scopes: Vec<String>,
}

/// Exchanges e-mail and password for a short-lived token.
#[utoipa::path(
    post, path = "/api/v1/tokens", operation_id = "createToken", tag = "tokens", security(()), request_body = SignIn,
    responses(
        (status = 200, description = "The token.", body = Token),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    _: NoQuery,
    ApiJson(asked): ApiJson<SignIn>,
) -> Result<Json<Token>, Problem> {
    let request = SignInRequest { email: asked.email, password: asked.password };
    let answer = facade.auth.clone().sign_in(request).await.map_err(|status| Refusal::from(Failure::from(status)))?;
    let token = answer.into_inner();
    Ok(Json(Token {
        token: token.token,
        expire_time: required(token.expire_time)?,
        organization_id: id(&token.organization),
        user_id: optional_id(&token.user),
        scopes: token.scopes,
    }))
}
