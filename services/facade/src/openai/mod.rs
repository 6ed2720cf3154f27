//! The OpenAI routes: `/v1/chat/completions`, `/v1/embeddings`, `/v1/models`, in OpenAI's own shapes.

mod chat;
mod document;
mod embeddings;
mod errors;
mod headers;
mod models;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::facade::Facade;

pub(crate) use document::document;

/// The routes under `/v1`.
pub(crate) fn routes() -> Router<Arc<Facade>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::get))
        .route("/v1/{*rest}", axum::routing::any(errors::unknown_route))
}
