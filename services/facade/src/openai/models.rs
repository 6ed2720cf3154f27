//! `GET /v1/models` and `GET /v1/models/{model}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::broker::v1::{ListModelsRequest, Model};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::errors::{ErrorBody, OpenAiError};
use crate::anthropic;
use crate::facade::Facade;
use crate::refusal::Refusal;

/// The models that the caller may use.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<ModelObject>,
}

/// A model.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelObject {
    /// What `model` in a request says.
    id: String,
    /// `model`.
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    owned_by: String,
}

impl From<Model> for ModelObject {
    fn from(model: Model) -> Self {
        Self { id: model.id, object: "model", created: model.created, owned_by: model.owned_by }
    }
}

/// Lists the models that the caller may use. With the header `anthropic-version`, as Anthropic lists them.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "listModels", tag = "openai",
    responses(
        (status = 200, description = "The models.", body = ModelList),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn list(State(facade): State<Arc<Facade>>, headers: HeaderMap) -> Result<Response, OpenAiError> {
    let models = models(&facade, &headers).await?;
    if anthropic::is_client(&headers) {
        return Ok(anthropic::models::list(models));
    }
    let data = models.into_iter().map(ModelObject::from).collect();
    Ok(Json(ModelList { object: "list", data }).into_response())
}

/// Reads one model. Its name may have slashes.
#[utoipa::path(
    get, path = "/v1/models/{*model}", operation_id = "getModel", tag = "openai", params(("model" = String, Path)),
    responses(
        (status = 200, description = "The model.", body = ModelObject),
        (status = 404, description = "There is no such model for this caller.", body = ErrorBody),
        (status = "default", description = "Any other refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, OpenAiError> {
    let models = models(&facade, &headers).await?;
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let model = models.into_iter().find(|model| model.id == name);
    let missing = || Error::new(ErrorReason::ModelNotFound, format!("The model `{name}` does not exist here."));
    let model = model.ok_or_else(missing)?;
    if anthropic::is_client(&headers) {
        return Ok(anthropic::models::one(model));
    }
    Ok(Json(ModelObject::from(model)).into_response())
}

async fn models(facade: &Facade, headers: &HeaderMap) -> Result<Vec<Model>, Refusal> {
    let caller = facade.credentials.caller(headers).await?;
    let answer = facade
        .as_caller(&caller, ListModelsRequest {}, async |request| facade.broker.clone().list_models(request).await);
    Ok(answer.await?.models)
}
