//! In which shape a path's callers expect errors.

use axum::body::Body;
use axum::http::Response;
use axum::response::IntoResponse as _;
use bytes::Bytes;

use crate::anthropic::AnthropicError;
use crate::api::Problem;
use crate::openai::OpenAiError;
use crate::refusal::Refusal;

/// The shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"error":{…}}`.
    OpenAi,
    /// `{"type":"error","error":{…}}`.
    Anthropic,
    /// RFC 9457.
    Problem,
}

impl Shape {
    /// Of everything under `/v1`, whether it exists or not, OpenAI's; but of messages Anthropic's.
    pub(crate) fn of(path: &str) -> Self {
        match path.strip_prefix("/v1") {
            Some(rest) if rest == "/messages" || rest.starts_with("/messages/") => Self::Anthropic,
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::OpenAi,
            _ => Self::Problem,
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Response<Body> {
        match self {
            Self::OpenAi => OpenAiError::from(refusal).into_response(),
            Self::Anthropic => AnthropicError::from(refusal).into_response(),
            Self::Problem => Problem::from(refusal).into_response(),
        }
    }

    /// An error that comes in the middle of a stream: its last events.
    pub(crate) fn event(self, refusal: Refusal) -> Bytes {
        match self {
            Self::Anthropic => AnthropicError::from(refusal).event(),
            Self::OpenAi | Self::Problem => OpenAiError::from(refusal).event(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_v1_is_openais() {
        assert!(["/v1", "/v1/", "/v1/nothing"].iter().all(|path| Shape::of(path) == Shape::OpenAi));
        assert!(["/v1/messages", "/v1/messages/batches"].iter().all(|path| Shape::of(path) == Shape::Anthropic));
        assert_eq!(Shape::of("/v1/messagesx"), Shape::OpenAi);
        assert!(["/", "/v10/models", "/api/v1/keys", "/api"].iter().all(|path| Shape::of(path) == Shape::Problem));
    }
}
