//! `POST /v1/responses`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use weir_proto::broker::v1::Operation;

use super::errors::{ErrorBody, OpenAiError};
use crate::calls;
use crate::facade::Facade;
use crate::shape::Shape;

/// Answers a response, plain or, with `stream`, as server-sent events. The model's provider must have this API.
#[utoipa::path(
    post, path = "/v1/responses", operation_id = "createResponse", tag = "openai",
    request_body(content = Object, description = "As OpenAI documents it. Not `background`, and none of OpenAI's own tools that cost more than tokens."),
    responses(
        (status = 200, description = "As the provider answers, with the headers of a chat completion.", body = Object),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    let incoming = facade.receive(request).await?;
    Ok(calls::answer(&facade, incoming, Operation::Responses.into(), Shape::OpenAi).await?)
}
