//! `POST /v1/audio/transcriptions` and `POST /v1/audio/speech`.

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

/// Writes down what an audio file says. How long it plays is read from the file itself.
#[utoipa::path(
    post, path = "/v1/audio/transcriptions", operation_id = "createTranscription", tag = "openai",
    request_body(content = Vec<u8>, content_type = "multipart/form-data", description = "As OpenAI documents it. At most `facade.max_upload_bytes`."),
    responses(
        (status = 200, description = "As the provider answers, with the headers of a chat completion; `text/event-stream` with `stream`, of models that stream.", body = Object),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn transcribe(
    State(facade): State<Arc<Facade>>,
    request: Request,
) -> Result<Response<Body>, OpenAiError> {
    Ok(form::call(&facade, request, Operation::Transcriptions).await?)
}

/// Speaks a text. The answer comes as the provider makes it.
#[utoipa::path(
    post, path = "/v1/audio/speech", operation_id = "createSpeech", tag = "openai",
    request_body(content = Object, description = "As OpenAI documents it. For a model of ElevenLabs, `voice` is the id of a voice there."),
    responses(
        (status = 200, description = "The sound; an answer that breaks off ends without its last chunk.", body = Vec<u8>, content_type = "audio/mpeg"),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
pub(crate) async fn speak(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    let incoming = facade.receive(request).await?;
    Ok(calls::bytes(&facade, incoming, Operation::Speech.into(), Shape::OpenAi).await?)
}
