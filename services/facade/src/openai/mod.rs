//! The OpenAI routes: chat completions, responses, embeddings, audio, images, models, in OpenAI's own shapes.

mod audio;
mod chat;
mod embeddings;
mod errors;
mod form;
mod images;
mod models;
mod responses;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::facade::Facade;

pub(crate) use errors::{ErrorBody, OpenAiError};

/// The routes under `/v1`, with their documentation. Bodies are OpenAI's, so they are described by reference and not a
/// second time.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new()
        .routes(routes!(chat::create))
        .routes(routes!(responses::create))
        .routes(routes!(embeddings::create))
        .routes(routes!(audio::transcribe))
        .routes(routes!(audio::speak))
        .routes(routes!(images::create))
        .routes(routes!(images::edit))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
}
