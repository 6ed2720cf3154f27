//! Answers that are kept and given again: what an organisation allows of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_proto::broker::v1 as proto;
use weir_types::{OrganizationId, names};

use super::extract::{ApiJson, By, NoQuery};
use super::problem::Problem;
use crate::facade::Facade;

/// The routes of kept answers.
pub(super) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new().routes(routes!(get, set)).routes(routes!(purge))
}

/// Whether answers may be kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CachePolicy {
    /// Answers may be kept, encrypted, where routes allow it. Turned off, everything that was kept is deleted.
    enabled: bool,
    /// Answers of routes that are shared may be given to, and taken from, other organisations that allow it.
    #[serde(default)]
    shared: bool,
    /// The longest that an answer is kept, if that is to be less than routes say.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_ttl_seconds: Option<u32>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Purged {
    /// How many answers.
    entries: i64,
}

fn name(organization: &OrganizationId) -> String {
    format!("{}/cachePolicy", names::organization(organization))
}

impl From<proto::CachePolicy> for CachePolicy {
    fn from(policy: proto::CachePolicy) -> Self {
        let seconds = policy.max_ttl.and_then(|ttl| u32::try_from(ttl.seconds).ok());
        Self { enabled: policy.enabled, shared: policy.shared, max_ttl_seconds: seconds }
    }
}

/// Whether the organisation's answers may be kept and given again. They may not before it says so.
#[utoipa::path(
    get, path = "/api/v1/cache", operation_id = "getCachePolicy", tag = "cache",
    responses(
        (status = 200, description = "The policy.", body = CachePolicy),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<CachePolicy>, Problem> {
    let request = proto::GetCachePolicyRequest { name: name(&caller.organization) };
    let policy = facade
        .as_caller(&caller, request, async |request| facade.cache.clone().get_cache_policy(request).await)
        .await?;
    Ok(Json(policy.into()))
}

/// Says whether the organisation's answers may be kept and given again. Other brokers know it within 5 s.
#[utoipa::path(
    put, path = "/api/v1/cache", operation_id = "setCachePolicy", tag = "cache", request_body = CachePolicy,
    responses(
        (status = 200, description = "The policy.", body = CachePolicy),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn set(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<CachePolicy>,
) -> Result<Json<CachePolicy>, Problem> {
    let policy = proto::CachePolicy {
        name: name(&caller.organization),
        enabled: asked.enabled,
        shared: asked.shared,
        max_ttl: asked.max_ttl_seconds.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
    };
    let request = proto::UpdateCachePolicyRequest { policy: Some(policy) };
    let policy = facade
        .as_caller(&caller, request, async |request| facade.cache.clone().update_cache_policy(request).await)
        .await?;
    Ok(Json(policy.into()))
}

/// Deletes the organisation's kept answers. None of them is given again once this is answered.
#[utoipa::path(
    delete, path = "/api/v1/cache/entries", operation_id = "purgeCache", tag = "cache",
    responses(
        (status = 200, description = "How many there were.", body = Purged),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn purge(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<Purged>, Problem> {
    let request = proto::PurgeCacheRequest { name: name(&caller.organization) };
    let purged =
        facade.as_caller(&caller, request, async |request| facade.cache.clone().purge_cache(request).await).await?;
    Ok(Json(Purged { entries: purged.entries }))
}
