//! `GET /v1/models` and `GET /v1/models/{model}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse as _;
use serde::Serialize;
use weir_proto::broker::v1::{ListModelsRequest, Model};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::errors::OpenAiError;
use super::headers;
use crate::facade::Facade;

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<ModelObject>,
}

#[derive(Serialize)]
struct ModelObject {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
}

impl From<Model> for ModelObject {
    fn from(model: Model) -> Self {
        Self { id: model.id, object: "model", created: model.created, owned_by: model.owned_by }
    }
}

/// Lists the models that the caller may use.
pub(crate) async fn list(State(facade): State<Arc<Facade>>, headers: HeaderMap) -> Response<Body> {
    let id = headers::request_id(&headers);
    let answer = async {
        let data = models(&facade, &headers).await?;
        Ok(Json(ModelList { object: "list", data }).into_response())
    };
    let answer = facade
        .serve(&id, facade.api_deadline, answer)
        .await
        .unwrap_or_else(|error: Error| OpenAiError::from(error).response());
    headers::identified(answer, id)
}

/// One model.
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let id = headers::request_id(&headers);
    let answer = async {
        let model = models(&facade, &headers).await?.into_iter().find(|model| model.id == name);
        let missing = || Error::new(ErrorReason::ModelNotFound, format!("The model `{name}` does not exist here."));
        Ok(Json(model.ok_or_else(missing)?).into_response())
    };
    let answer = facade
        .serve(&id, facade.api_deadline, answer)
        .await
        .unwrap_or_else(|error: Error| OpenAiError::from(error).response());
    headers::identified(answer, id)
}

async fn models(facade: &Facade, headers: &HeaderMap) -> Result<Vec<ModelObject>, Error> {
    let caller = facade.credentials.caller(headers).await?;
    let answer = facade
        .as_caller(&caller, ListModelsRequest {}, async |request| facade.broker.clone().list_models(request).await);
    Ok(answer.await?.models.into_iter().map(ModelObject::from).collect())
}
