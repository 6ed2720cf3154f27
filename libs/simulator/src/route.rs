//! Which path leads where.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;

use crate::body::Reply;
use crate::dialect::Dialect;
use crate::headers::{JSON, PNG};
use crate::picture::Picture;
use crate::refusal::Refusal;
use crate::service::{Answered, Call, State};
use crate::{anthropic, elevenlabs, fal, openai};

/// Paths that need no key: pictures, and the keys that FAL signs with.
pub(crate) fn public(state: &State, method: &Method, path: &str) -> Option<Response<Reply>> {
    if method != Method::GET {
        return None;
    }
    if path == "/.well-known/jwks.json" {
        let mut response = Response::new(Reply::from(state.queue.jwks()));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        return Some(response);
    }
    let name = path.strip_prefix("/files/")?;
    let Some(picture) = Picture::of_name(name) else {
        let mut response = Response::new(Reply::Whole(None));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Some(response);
    };
    let mut response = Response::new(Reply::from(picture.png()));
    response.headers_mut().insert(CONTENT_TYPE, PNG);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Some(response)
}

pub(crate) async fn answer(call: &Call, method: &Method, path: &str, body: Incoming) -> Answered {
    match call.dialect {
        Dialect::OpenAi => openai::route(call, method, path, body).await,
        Dialect::Anthropic => anthropic::route(call, method, path, body).await,
        Dialect::ElevenLabs => elevenlabs::route(call, method, path, body).await,
        Dialect::Fal => fal::route(call, method, path, body).await,
    }
}

/// A path that exists, asked with another method, or one that does not.
pub(crate) fn nowhere(dialect: Dialect, method: &Method, path: &str, exists: bool) -> Refusal {
    if exists { Refusal::wrong_method(dialect, method) } else { Refusal::unknown_url(dialect, method, path) }
}

/// Names the method that a path allows in a refusal of another.
pub(crate) fn with_allow(mut response: Response<Reply>, path: &str) -> Response<Reply> {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = if path.starts_with("/v1/models") { "GET" } else { "POST" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}
