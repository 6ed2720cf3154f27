//! API keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_proto::auth::v1 as proto;
use weir_rpc::Error;
use weir_types::{OrganizationId, names};

use super::body::{ApiJson, ApiQuery};
use super::problem::Problem;
use super::time::{id, instant, optional_id, required, timestamp};
use crate::facade::Facade;

/// A long-lived credential for programs.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKey {
    id: String,
    display_name: String,
    /// The user it acts for; none for a key of the organisation itself.
    user_id: Option<String>,
    scopes: Vec<String>,
    /// The first characters, to recognise it by.
    prefix: String,
    create_time: DateTime<Utc>,
    expire_time: Option<DateTime<Utc>>,
    revoke_time: Option<DateTime<Utc>>,
    /// The successor, after a rotation.
    rotated_to: Option<String>,
}

/// A new key with its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewApiKey {
    #[serde(flatten)]
    api_key: ApiKey,
    /// Shown here once, and nowhere else.
    secret: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKey {
    display_name: String,
    #[serde(default)]
    user_id: Option<String>,
    /// For instance `ai.invoke`.
    scopes: Vec<String>,
    #[serde(default)]
    expire_time: Option<DateTime<Utc>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateApiKey {
    /// How long the old key goes on, at most 30 days; 0 revokes it at once.
    #[serde(default)]
    overlap_seconds: u32,
}

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// At most this many; 50 by default, 1,000 at most.
    #[serde(default)]
    pub(crate) page_size: i32,
    /// From the page before.
    #[serde(default)]
    pub(crate) page_token: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeys {
    api_keys: Vec<ApiKey>,
    /// Empty on the last page.
    next_page_token: String,
}

impl TryFrom<proto::ApiKey> for ApiKey {
    type Error = Error;

    fn try_from(key: proto::ApiKey) -> Result<Self, Error> {
        Ok(Self {
            id: id(&key.name),
            display_name: key.display_name,
            user_id: optional_id(&key.user),
            scopes: key.scopes,
            prefix: key.prefix,
            create_time: required(key.create_time)?,
            expire_time: instant(key.expire_time),
            revoke_time: instant(key.revoke_time),
            rotated_to: optional_id(&key.rotated_to),
        })
    }
}

impl TryFrom<proto::CreateApiKeyResponse> for NewApiKey {
    type Error = Error;

    fn try_from(created: proto::CreateApiKeyResponse) -> Result<Self, Error> {
        let key = created.api_key.ok_or_else(|| Error::defect("auth answered without the key"))?;
        Ok(Self { api_key: key.try_into()?, secret: created.secret })
    }
}

fn name(organization: &OrganizationId, key: &str) -> String {
    format!("{}/apiKeys/{key}", names::organization(organization))
}

/// Creates an API key. The answer is the only place where its secret is ever shown.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "keys", request_body = CreateApiKey,
    responses((status = 201, body = NewApiKey), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    headers: HeaderMap,
    ApiJson(asked): ApiJson<CreateApiKey>,
) -> Result<(StatusCode, Json<NewApiKey>), Problem> {
    let caller = facade.credentials.caller(&headers).await?;
    let parent = names::organization(&caller.organization);
    let request = proto::CreateApiKeyRequest {
        user: asked.user_id.map(|user| format!("{parent}/users/{user}")).unwrap_or_default(),
        parent,
        display_name: asked.display_name,
        scopes: asked.scopes,
        expire_time: asked.expire_time.map(timestamp),
    };
    let created =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().create_api_key(request).await).await?;
    Ok((StatusCode::CREATED, Json(created.try_into()?)))
}

/// Lists the organisation's API keys, oldest first.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys", params(Page),
    responses((status = 200, body = ApiKeys), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    headers: HeaderMap,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<ApiKeys>, Problem> {
    let caller = facade.credentials.caller(&headers).await?;
    let Page { page_size, page_token } = page;
    let request =
        proto::ListApiKeysRequest { parent: names::organization(&caller.organization), page_size, page_token };
    let listed =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().list_api_keys(request).await).await?;
    let api_keys = listed.api_keys.into_iter().map(ApiKey::try_from).collect::<Result<_, _>>()?;
    Ok(Json(ApiKeys { api_keys, next_page_token: listed.next_page_token }))
}

/// Reads one API key, never its secret.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    responses((status = 200, body = ApiKey), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ApiKey>, Problem> {
    let caller = facade.credentials.caller(&headers).await?;
    let request = proto::GetApiKeyRequest { name: name(&caller.organization, &key) };
    let key =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().get_api_key(request).await).await?;
    Ok(Json(key.try_into()?))
}

/// Revokes an API key: it stops working everywhere within seconds. Revoking twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    responses((status = 200, body = ApiKey), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn revoke(
    State(facade): State<Arc<Facade>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ApiKey>, Problem> {
    let caller = facade.credentials.caller(&headers).await?;
    let request = proto::RevokeApiKeyRequest { name: name(&caller.organization, &key) };
    let key =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().revoke_api_key(request).await).await?;
    Ok(Json(key.try_into()?))
}

/// Makes a successor with the same owner and scopes; the old key goes on for the overlap.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotate", tag = "keys", params(("id" = String, Path)), request_body = RotateApiKey,
    responses((status = 201, body = NewApiKey), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn rotate(
    State(facade): State<Arc<Facade>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    ApiJson(asked): ApiJson<RotateApiKey>,
) -> Result<(StatusCode, Json<NewApiKey>), Problem> {
    let caller = facade.credentials.caller(&headers).await?;
    let overlap = prost_types::Duration { seconds: asked.overlap_seconds.into(), nanos: 0 };
    let request = proto::RotateApiKeyRequest { name: name(&caller.organization, &key), overlap: Some(overlap) };
    let made =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().rotate_api_key(request).await).await?;
    Ok((StatusCode::CREATED, Json(made.try_into()?)))
}
