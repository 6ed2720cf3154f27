//! OpenAI.

pub(crate) mod chat;
mod chunks;
mod completion;
pub(crate) mod embeddings;
pub(crate) mod errors;
pub(crate) mod headers;
mod images;
mod models;
mod multipart;
mod prompt;
mod response_events;
mod responses;
pub(crate) mod speech;
mod transcriptions;

use http::Method;
use hyper::body::Incoming;

use crate::dialect::Dialect;
use crate::route::nowhere;
use crate::service::{Answered, Call};

pub(crate) async fn route(call: &Call, method: &Method, path: &str, body: Incoming) -> Answered {
    match (path, method) {
        ("/v1/chat/completions", &Method::POST) => chat::answer(call, body).await,
        ("/v1/responses", &Method::POST) => responses::answer(call, body).await,
        ("/v1/embeddings", &Method::POST) => embeddings::answer(call, body).await,
        ("/v1/audio/transcriptions", &Method::POST) => transcriptions::answer(call, body).await,
        ("/v1/audio/speech", &Method::POST) => speech::answer(call, body).await,
        ("/v1/images/generations", &Method::POST) => images::generate(call, body).await,
        ("/v1/images/edits", &Method::POST) => images::edit(call, body).await,
        ("/v1/models", &Method::GET) => models::list(call).await,
        (path, &Method::GET) if path.starts_with("/v1/models/") => {
            models::get(call, &path["/v1/models/".len()..]).await
        }
        (path, method) => {
            let exists = matches!(
                path,
                "/v1/chat/completions"
                    | "/v1/responses"
                    | "/v1/embeddings"
                    | "/v1/audio/transcriptions"
                    | "/v1/audio/speech"
                    | "/v1/images/generations"
                    | "/v1/images/edits"
                    | "/v1/models"
            );
            Err(nowhere(Dialect::OpenAi, method, path, exists).into())
        }
    }
}
