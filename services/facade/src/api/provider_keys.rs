//! Keys of providers that users and organisations bring themselves.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use prost_types::FieldMask;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_proto::broker::v1 as proto;
use weir_rpc::Error;
use weir_types::{ProviderKeyId, names};

use super::convert::{id, instant, optional_id, required};
use super::created::Created;
use super::extract::{ApiJson, ApiPath, ApiQuery, By, NoQuery};
use super::page::Page;
use super::problem::Problem;
use crate::credentials::Caller;
use crate::facade::Facade;

/// A key of a provider. Its secret is never shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderKey {
    id: String,
    /// The user whose calls it is for; none: those of the whole organisation.
    user_id: Option<String>,
    provider: String,
    label: String,
    /// What the secret ends with.
    last_four: String,
    limits: Limits,
    create_time: DateTime<Utc>,
    /// Of the last change or rotation.
    update_time: DateTime<Utc>,
    last_use_time: Option<DateTime<Utc>>,
}

/// At most so much by one key; what is left out, null or 0 is not limited.
#[derive(Serialize, Deserialize, ToSchema, Clone, Copy, Default)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderKeyLimits)]
pub(crate) struct Limits {
    requests_per_minute: Option<i64>,
    tokens_per_minute: Option<i64>,
    /// By list price, in a calendar month in UTC.
    cost_nano_usd_per_month: Option<i64>,
}

/// Whose calls a key is for.
#[derive(Deserialize, ToSchema, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schema(as = ProviderKeyHolder)]
pub(crate) enum Holder {
    /// The caller's own.
    #[default]
    User,
    /// The whole organisation's.
    Organization,
}

/// A key to store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProviderKey {
    /// The provider's name in the configuration.
    provider: String,
    /// The key itself, 16 to 1,024 characters.
    secret: Secret,
    #[serde(default)]
    holder: Holder,
    /// For people; at most 64 characters.
    #[serde(default)]
    label: String,
    #[serde(default)]
    limits: Limits,
}

/// What is to be changed; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateProviderKey {
    #[serde(default)]
    label: Option<String>,
    /// All of them.
    #[serde(default)]
    limits: Option<Limits>,
}

/// Another secret for a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateProviderKey {
    /// The key itself, 16 to 1,024 characters.
    secret: Secret,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderKeys {
    provider_keys: Vec<ProviderKey>,
    /// Empty on the last page.
    next_page_token: String,
}

/// Nothing prints it.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Password)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TryFrom<proto::ProviderKey> for ProviderKey {
    type Error = Error;

    fn try_from(key: proto::ProviderKey) -> Result<Self, Error> {
        Ok(Self {
            id: id(&key.name),
            user_id: optional_id(&key.user),
            provider: key.provider,
            label: key.label,
            last_four: key.last_four,
            limits: key.limits.unwrap_or_default().into(),
            create_time: required(key.create_time)?,
            update_time: required(key.update_time)?,
            last_use_time: instant(key.last_use_time),
        })
    }
}

impl From<proto::ProviderKeyLimits> for Limits {
    fn from(limits: proto::ProviderKeyLimits) -> Self {
        let set = |limit: i64| (limit != 0).then_some(limit);
        Self {
            requests_per_minute: set(limits.requests_per_minute),
            tokens_per_minute: set(limits.tokens_per_minute),
            cost_nano_usd_per_month: set(limits.cost_nano_usd_per_month),
        }
    }
}

impl From<Limits> for proto::ProviderKeyLimits {
    fn from(limits: Limits) -> Self {
        Self {
            requests_per_minute: limits.requests_per_minute.unwrap_or_default(),
            tokens_per_minute: limits.tokens_per_minute.unwrap_or_default(),
            cost_nano_usd_per_month: limits.cost_nano_usd_per_month.unwrap_or_default(),
        }
    }
}

fn name(caller: &Caller, key: ProviderKeyId) -> String {
    names::provider_key(&caller.organization, &key)
}

/// Stores a key of a provider. The caller's calls to it go by this key from now on, and never by the platform's.
#[utoipa::path(
    post, path = "/api/v1/provider-keys", operation_id = "createProviderKey", tag = "provider keys",
    request_body = CreateProviderKey,
    responses(
        (status = 201, description = "The key, without its secret.", body = ProviderKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<CreateProviderKey>,
) -> Result<Created<ProviderKey>, Problem> {
    let user = match (asked.holder, caller.user) {
        (Holder::Organization, _) => String::new(),
        (Holder::User, Some(user)) => names::user(&caller.organization, &user),
        (Holder::User, None) => {
            return Err(Error::invalid("holder", "must be `organization`: this credential is no user's").into());
        }
    };
    let key = proto::ProviderKey {
        user,
        provider: asked.provider,
        label: asked.label,
        limits: Some(asked.limits.into()),
        ..proto::ProviderKey::default()
    };
    let request = proto::CreateProviderKeyRequest {
        parent: names::organization(&caller.organization),
        provider_key: Some(key),
        secret: asked.secret.0,
    };
    let made = facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().create_provider_key(request).await)
        .await?;
    let key = ProviderKey::try_from(made)?;
    Ok(Created { location: format!("/api/v1/provider-keys/{}", key.id), body: key })
}

/// Lists the organisation's keys and the caller's own, newest first; everybody's for those who manage keys.
#[utoipa::path(
    get, path = "/api/v1/provider-keys", operation_id = "listProviderKeys", tag = "provider keys", params(Page),
    responses(
        (status = 200, description = "A page of keys.", body = ProviderKeys),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<ProviderKeys>, Problem> {
    let Page { page_size, page_token } = page;
    let parent = names::organization(&caller.organization);
    let request = proto::ListProviderKeysRequest { parent, page_size, page_token };
    let listed = facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().list_provider_keys(request).await)
        .await?;
    let provider_keys = listed.provider_keys.into_iter().map(ProviderKey::try_from).collect::<Result<_, _>>()?;
    Ok(Json(ProviderKeys { provider_keys, next_page_token: listed.next_page_token }))
}

/// Reads one key, never its secret.
#[utoipa::path(
    get, path = "/api/v1/provider-keys/{id}", operation_id = "getProviderKey", tag = "provider keys",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The key.", body = ProviderKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ProviderKeyId>,
) -> Result<Json<ProviderKey>, Problem> {
    let request = proto::GetProviderKeyRequest { name: name(&caller, key) };
    let key = facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().get_provider_key(request).await)
        .await?;
    Ok(Json(key.try_into()?))
}

/// Changes a key's label or limits.
#[utoipa::path(
    patch, path = "/api/v1/provider-keys/{id}", operation_id = "updateProviderKey", tag = "provider keys",
    params(("id" = Uuid, Path)), request_body = UpdateProviderKey,
    responses(
        (status = 200, description = "The key.", body = ProviderKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn update(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ProviderKeyId>,
    ApiJson(asked): ApiJson<UpdateProviderKey>,
) -> Result<Json<ProviderKey>, Problem> {
    let mut paths = Vec::new();
    paths.extend(asked.label.is_some().then(|| "label".to_owned()));
    paths.extend(asked.limits.is_some().then(|| "limits".to_owned()));
    if paths.is_empty() {
        return Err(Error::invalid("label", "nothing is to be changed: set `label` or `limits`").into());
    }
    let key = proto::ProviderKey {
        name: name(&caller, key),
        label: asked.label.unwrap_or_default(),
        limits: asked.limits.map(Into::into),
        ..proto::ProviderKey::default()
    };
    let request = proto::UpdateProviderKeyRequest { provider_key: Some(key), update_mask: Some(FieldMask { paths }) };
    let key = facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().update_provider_key(request).await)
        .await?;
    Ok(Json(key.try_into()?))
}

/// Puts another secret in the place of a key's. Calls under way end with the old one; no call is refused meanwhile.
#[utoipa::path(
    post, path = "/api/v1/provider-keys/{id}/rotate", operation_id = "rotateProviderKey", tag = "provider keys",
    params(("id" = Uuid, Path)), request_body = RotateProviderKey,
    responses(
        (status = 200, description = "The key.", body = ProviderKey),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn rotate(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ProviderKeyId>,
    ApiJson(asked): ApiJson<RotateProviderKey>,
) -> Result<Json<ProviderKey>, Problem> {
    let request = proto::RotateProviderKeyRequest { name: name(&caller, key), secret: asked.secret.0 };
    let key = facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().rotate_provider_key(request).await)
        .await?;
    Ok(Json(key.try_into()?))
}

/// Forgets a key and its secret. New calls go by what is left: another own key, or the platform's if the plan has it.
#[utoipa::path(
    delete, path = "/api/v1/provider-keys/{id}", operation_id = "deleteProviderKey", tag = "provider keys",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn delete(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(key): ApiPath<ProviderKeyId>,
) -> Result<StatusCode, Problem> {
    let request = proto::DeleteProviderKeyRequest { name: name(&caller, key) };
    facade
        .as_caller(&caller, request, async |request| facade.provider_keys.clone().delete_provider_key(request).await)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
