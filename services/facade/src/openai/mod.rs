//! The OpenAI routes: `/v1/chat/completions`, `/v1/embeddings`, `/v1/models`, in OpenAI's own shapes.

mod chat;
mod embeddings;
mod errors;
mod models;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::facade::Facade;

pub(crate) use errors::OpenAiError;

/// The routes under `/v1`, with their documentation. Bodies are OpenAI's, so they are described by reference and not a
/// second time.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new()
        .routes(routes!(chat::create))
        .routes(routes!(embeddings::create))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
}
