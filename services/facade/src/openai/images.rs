//! `POST /v1/images/generations` and `POST /v1/images/edits`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use weir_proto::broker::v1::Operation;

use super::errors::{ErrorBody, OpenAiError};
use super::form;
use crate::calls;
use crate::facade::Facade;
use crate::shape::Shape;

/// Makes pictures. Takes what OpenAI's endpoint takes; streamed, one at a time.
#[utoipa::path(
    post, path = "/v1/images/generations", operation_id = "createImage", tag = "openai",
    request_body(content = Object, description = "As OpenAI documents it."),
    responses(
        (status = 200, description = "As the provider answers, with the headers of a chat completion; `text/event-stream` with `stream`.", body = Object),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    let incoming = facade.receive(request).await?;
    Ok(calls::answer(&facade, incoming, Operation::Images.into(), Shape::OpenAi).await?)
}

/// Makes pictures of others. Takes what OpenAI's endpoint takes as a form; streamed, one at a time.
#[utoipa::path(
    post, path = "/v1/images/edits", operation_id = "createImageEdit", tag = "openai",
    request_body(content = Vec<u8>, content_type = "multipart/form-data", description = "As OpenAI documents it. At most `facade.max_upload_bytes`."),
    responses(
        (status = 200, description = "As the provider answers, with the headers of a chat completion; `text/event-stream` with `stream`.", body = Object),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn edit(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    Ok(form::call(&facade, request, Operation::ImageEdits).await?)
}
