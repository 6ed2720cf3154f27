//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use weir_proto::broker::v1::Operation;

use super::errors::OpenAiError;
use super::{chat, headers};
use crate::facade::Facade;

/// Answers embeddings.
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Response<Body> {
    let id = headers::request_id(request.headers());
    let answer = async { chat::invoke(&facade, facade.receive(request).await?, Operation::Embeddings, &id).await };
    let answer =
        facade.serve(&id, facade.deadline, answer).await.unwrap_or_else(|error| OpenAiError::from(error).response());
    headers::identified(answer, id)
}
