//! API keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_proto::auth::v1 as proto;
use weir_rpc::Error;
use weir_types::{ApiKeyId, UserId, names};

use super::convert::{id, instant, optional_id, required, timestamp};
use super::created::Created;
use super::extract::{ApiJson, ApiPath, ApiQuery, By, NoQuery};
use super::page::Page;
use super::problem::Problem;
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

/// What the new key is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKey {
    /// For people.
    display_name: String,
    /// The user it acts for; absent for a key of the organisation itself.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    user_id: Option<UserId>,
    /// For instance `ai.invoke`.
    scopes: Vec<String>,
    /// Absent: never.
    #[serde(default)]
    expire_time: Option<DateTime<Utc>>,
}

/// How to replace a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateApiKey {
    /// How long the old key goes on, at most 30 days; 0 revokes it at once.
    overlap_seconds: u32,
}

/// A page of API keys.
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

fn created_key(created: proto::CreateApiKeyResponse) -> Result<Created<NewApiKey>, Error> {
    let key = NewApiKey::try_from(created)?;
    Ok(Created { location: format!("/api/v1/keys/{}", key.api_key.id), body: key })
}

/// Creates an API key. The answer is the only place where its secret is ever shown.
#[utoipa::path(
    post, path = "/api/v1/keys", operation_id = "createKey", tag = "keys", request_body = CreateApiKey,
    responses(
        (status = 201, description = "The key and its secret.", body = NewApiKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<CreateApiKey>,
) -> Result<Created<NewApiKey>, Problem> {
    let parent = names::organization(&caller.organization);
    let request = proto::CreateApiKeyRequest {
        user: asked.user_id.map(|user| names::user(&caller.organization, &user)).unwrap_or_default(),
        parent,
        display_name: asked.display_name,
        scopes: asked.scopes,
        expire_time: asked.expire_time.map(timestamp),
    };
    let created =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().create_api_key(request).await).await?;
    Ok(created_key(created)?)
}

/// Lists the organisation's API keys, oldest first.
#[utoipa::path(
    get, path = "/api/v1/keys", operation_id = "listKeys", tag = "keys", params(Page),
    responses(
        (status = 200, description = "A page of keys.", body = ApiKeys),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<ApiKeys>, Problem> {
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
    get, path = "/api/v1/keys/{id}", operation_id = "getKey", tag = "keys", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The key.", body = ApiKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ApiKeyId>,
) -> Result<Json<ApiKey>, Problem> {
    let request = proto::GetApiKeyRequest { name: names::api_key(&caller.organization, &key) };
    let key =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().get_api_key(request).await).await?;
    Ok(Json(key.try_into()?))
}

/// Revokes an API key: it stops working everywhere within seconds. Revoking twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", operation_id = "revokeKey", tag = "keys", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The key, revoked.", body = ApiKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn revoke(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ApiKeyId>,
) -> Result<Json<ApiKey>, Problem> {
    let request = proto::RevokeApiKeyRequest { name: names::api_key(&caller.organization, &key) };
    let key =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().revoke_api_key(request).await).await?;
    Ok(Json(key.try_into()?))
}

/// Makes a successor with the same owner and scopes; the old key goes on for the overlap.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotate", operation_id = "rotateKey", tag = "keys", params(("id" = Uuid, Path)), request_body = RotateApiKey,
    responses(
        (status = 201, description = "The successor and its secret.", body = NewApiKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn rotate(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ApiKeyId>,
    ApiJson(asked): ApiJson<RotateApiKey>,
) -> Result<Created<NewApiKey>, Problem> {
    let overlap = prost_types::Duration { seconds: asked.overlap_seconds.into(), nanos: 0 };
    let request =
        proto::RotateApiKeyRequest { name: names::api_key(&caller.organization, &key), overlap: Some(overlap) };
    let made =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().rotate_api_key(request).await).await?;
    Ok(created_key(made)?)
}
