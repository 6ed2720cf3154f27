//! ElevenLabs' text to speech, for its SDKs. Errors have the shape of the rest of `/v1`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_proto::broker::v1::Operation;

use crate::calls::{self, Asked};
use crate::facade::Facade;
use crate::openai::{ErrorBody, OpenAiError};
use crate::refusal::Refusal;
use crate::shape::Shape;

/// The routes, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new().routes(routes!(speak)).routes(routes!(stream))
}

/// Speaks a text with a voice. Takes what ElevenLabs' endpoint takes; `model_id` is required.
#[utoipa::path(
    post, path = "/v1/text-to-speech/{voice}", operation_id = "textToSpeech", tag = "elevenlabs",
    params(("voice" = String, Path, description = "The id of a voice of ElevenLabs.")),
    request_body(content = Object, description = "As ElevenLabs documents it."),
    responses(
        (status = 200, description = "The sound, as it is made.", body = Vec<u8>, content_type = "audio/mpeg"),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
async fn speak(
    State(facade): State<Arc<Facade>>,
    Path(voice): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response<Body>, OpenAiError> {
    Ok(answer(&facade, voice, query, request).await?)
}

/// The same: answers always come as they are made.
#[utoipa::path(
    post, path = "/v1/text-to-speech/{voice}/stream", operation_id = "streamTextToSpeech", tag = "elevenlabs",
    params(("voice" = String, Path, description = "The id of a voice of ElevenLabs.")),
    request_body(content = Object, description = "As ElevenLabs documents it."),
    responses(
        (status = 200, description = "The sound, as it is made.", body = Vec<u8>, content_type = "audio/mpeg"),
        (status = "default", description = "A refusal.", body = ErrorBody)
    )
)]
async fn stream(
    State(facade): State<Arc<Facade>>,
    Path(voice): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response<Body>, OpenAiError> {
    Ok(answer(&facade, voice, query, request).await?)
}

async fn answer(
    facade: &Facade,
    voice: String,
    query: Option<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let incoming = facade.receive(request).await?;
    let query = query.unwrap_or_default();
    let asked = Asked { voice, query, ..Operation::TextToSpeech.into() };
    calls::bytes(facade, incoming, asked, Shape::OpenAi).await
}
