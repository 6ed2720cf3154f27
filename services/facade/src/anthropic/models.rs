//! `GET /v1/models` as Anthropic's clients know it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weir_proto::broker::v1::Model;

/// A page, which is always the only one.
#[derive(Serialize)]
struct Page {
    data: Vec<ModelInfo>,
    has_more: bool,
    first_id: Option<String>,
    last_id: Option<String>,
}

#[derive(Serialize)]
struct ModelInfo {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    display_name: String,
    created_at: String,
}

impl From<Model> for ModelInfo {
    fn from(model: Model) -> Self {
        let created = chrono::DateTime::from_timestamp(model.created, 0).unwrap_or_default();
        let created_at = created.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Self { kind: "model", display_name: model.id.clone(), id: model.id, created_at }
    }
}

/// All models.
pub(crate) fn list(models: Vec<Model>) -> Response {
    let data: Vec<ModelInfo> = models.into_iter().map(ModelInfo::from).collect();
    let id = |model: Option<&ModelInfo>| model.map(|model| model.id.clone());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    Json(Page { data, has_more: false, first_id, last_id }).into_response()
}

/// One model.
pub(crate) fn one(model: Model) -> Response {
    Json(ModelInfo::from(model)).into_response()
}
