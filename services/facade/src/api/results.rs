//! What an organisation's jobs have stored: listed, shown, deleted; and whether anything is stored at all.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use weir_proto::broker::v1 as proto;
use weir_rpc::Error;
use weir_types::{OrganizationId, names};

use super::convert::{id, required};
use super::extract::{ApiJson, ApiPath, ApiQuery, By, NoQuery};
use super::page::Page;
use super::problem::Problem;
use crate::facade::Facade;

/// The routes of results.
pub(super) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, delete)).routes(routes!(settings, update_settings))
}

/// A stored picture or sound.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredResult {
    id: String,
    /// Where it can be read: signed and good for a while, unless it is public.
    url: String,
    content_type: String,
    bytes: i64,
    public: bool,
    create_time: DateTime<Utc>,
    /// When it is deleted.
    expire_time: DateTime<Utc>,
}

/// A page of results.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredResults {
    results: Vec<StoredResult>,
    /// Empty on the last page.
    next_page_token: String,
}

/// Whether and for how long results are kept.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultSettings {
    /// Jobs may store results. Off until it is turned on.
    enabled: bool,
    /// How long what is stored from now on is kept; as long as the deployment keeps results if unset, and never longer.
    #[serde(default)]
    retention_seconds: Option<i64>,
}

impl TryFrom<proto::StoredResult> for StoredResult {
    type Error = Error;

    fn try_from(stored: proto::StoredResult) -> Result<Self, Error> {
        Ok(Self {
            id: id(&stored.name),
            url: stored.url,
            content_type: stored.content_type,
            bytes: stored.bytes,
            public: stored.public,
            create_time: required(stored.create_time)?,
            expire_time: required(stored.expire_time)?,
        })
    }
}

impl From<proto::ResultSettings> for ResultSettings {
    fn from(settings: proto::ResultSettings) -> Self {
        Self { enabled: settings.enabled, retention_seconds: settings.retention.map(|span| span.seconds) }
    }
}

fn name(organization: &OrganizationId, result: Uuid) -> String {
    format!("{}/results/{result}", names::organization(organization))
}

fn settings_name(organization: &OrganizationId) -> String {
    format!("{}/resultSettings", names::organization(organization))
}

/// Lists what the organisation's jobs have stored, newest first.
#[utoipa::path(
    get, path = "/api/v1/results", operation_id = "listResults", tag = "results", params(Page),
    responses(
        (status = 200, description = "A page of results.", body = StoredResults),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<StoredResults>, Problem> {
    let Page { page_size, page_token } = page;
    let request =
        proto::ListResultsRequest { parent: names::organization(&caller.organization), page_size, page_token };
    let listed =
        facade.as_caller(&caller, request, async |request| facade.results.clone().list_results(request).await).await?;
    let results = listed.results.into_iter().map(StoredResult::try_from).collect::<Result<_, _>>()?;
    Ok(Json(StoredResults { results, next_page_token: listed.next_page_token }))
}

/// Shows a result, with an address that is good from now on.
#[utoipa::path(
    get, path = "/api/v1/results/{id}", operation_id = "getResult", tag = "results", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The result.", body = StoredResult),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(result): ApiPath<Uuid>,
) -> Result<Json<StoredResult>, Problem> {
    let request = proto::GetResultRequest { name: name(&caller.organization, result) };
    let stored =
        facade.as_caller(&caller, request, async |request| facade.results.clone().get_result(request).await).await?;
    Ok(Json(stored.try_into()?))
}

/// Deletes a result before its time: its address leads nowhere any more. Copies that browsers and caches have stay with them.
#[utoipa::path(
    delete, path = "/api/v1/results/{id}", operation_id = "deleteResult", tag = "results", params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It can't be read any more."),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn delete(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(result): ApiPath<Uuid>,
) -> Result<StatusCode, Problem> {
    let request = proto::DeleteResultRequest { name: name(&caller.organization, result) };
    facade.as_caller(&caller, request, async |request| facade.results.clone().delete_result(request).await).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says whether results are stored, and for how long.
#[utoipa::path(
    get, path = "/api/v1/result-settings", operation_id = "getResultSettings", tag = "results",
    responses(
        (status = 200, description = "The settings.", body = ResultSettings),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn settings(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
) -> Result<Json<ResultSettings>, Problem> {
    let request = proto::GetResultSettingsRequest { name: settings_name(&caller.organization) };
    let settings = facade
        .as_caller(&caller, request, async |request| facade.results.clone().get_result_settings(request).await)
        .await?;
    Ok(Json(settings.into()))
}

/// Turns storing on or off. What is stored already stays until its time.
#[utoipa::path(
    put, path = "/api/v1/result-settings", operation_id = "updateResultSettings", tag = "results",
    request_body = ResultSettings,
    responses(
        (status = 200, description = "The settings.", body = ResultSettings),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn update_settings(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<ResultSettings>,
) -> Result<Json<ResultSettings>, Problem> {
    let settings = proto::ResultSettings {
        name: settings_name(&caller.organization),
        enabled: asked.enabled,
        retention: asked.retention_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    };
    let request = proto::UpdateResultSettingsRequest { settings: Some(settings) };
    let settings = facade
        .as_caller(&caller, request, async |request| facade.results.clone().update_result_settings(request).await)
        .await?;
    Ok(Json(settings.into()))
}
