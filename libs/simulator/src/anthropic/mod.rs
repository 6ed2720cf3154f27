//! Anthropic.

mod answer;
pub(crate) mod cache;
pub(crate) mod errors;
mod events;
pub(crate) mod headers;
mod messages;
mod models;
mod request;

use http::Method;
use hyper::body::Incoming;

use crate::dialect::Dialect;
use crate::route::nowhere;
use crate::service::{Answered, Call};

pub(crate) async fn route(call: &Call, method: &Method, path: &str, body: Incoming) -> Answered {
    if !call.headers.contains_key("anthropic-version") {
        return Err(errors::no_version().into());
    }
    match (path, method) {
        ("/v1/messages", &Method::POST) => messages::answer(call, body).await,
        ("/v1/messages/count_tokens", &Method::POST) => messages::count(call, body).await,
        ("/v1/models", &Method::GET) => models::list(call).await,
        (path, &Method::GET) if path.starts_with("/v1/models/") => {
            models::get(call, &path["/v1/models/".len()..]).await
        }
        (path, method) => {
            let exists = matches!(path, "/v1/messages" | "/v1/messages/count_tokens" | "/v1/models");
            Err(nowhere(Dialect::Anthropic, method, path, exists).into())
        }
    }
}
