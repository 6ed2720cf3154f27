//! Refusals, and their bodies in each provider's shape.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::dialect::Dialect;
use crate::keys::{TooMany, label};
use crate::{anthropic, elevenlabs, fal, openai};

/// An answer other than the one that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// OpenAI's and Anthropic's `error.type`; FAL's error type.
    pub(crate) kind: &'static str,
    pub(crate) param: Option<&'static str>,
    /// OpenAI's `error.code`; ElevenLabs' `detail.status`.
    pub(crate) code: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None, retry_after: None }
    }

    /// A request that is at fault itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    pub(crate) fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// No key, or one that is not known.
    pub(crate) fn unknown_key(dialect: Dialect, secret: Option<&str>) -> Self {
        match dialect {
            Dialect::OpenAi => openai::errors::unknown_key(secret.map(label).as_deref()),
            Dialect::Anthropic => anthropic::errors::unknown_key(secret.is_some()),
            Dialect::ElevenLabs => elevenlabs::errors::unknown_key(secret.is_some()),
            Dialect::Fal => fal::errors::unknown_key(secret.is_some()),
        }
    }

    pub(crate) fn unknown_url(dialect: Dialect, method: &Method, path: &str) -> Self {
        match dialect {
            Dialect::OpenAi => openai::errors::unknown_url(method.as_str(), path),
            Dialect::Anthropic => Self::new(404, "not_found_error", format!("Not Found: {method} {path}")),
            Dialect::ElevenLabs => Self::new(404, "not_found", "Not Found"),
            Dialect::Fal => Self::new(404, "not_found", format!("Path {path} not found")),
        }
    }

    pub(crate) fn wrong_method(dialect: Dialect, method: &Method) -> Self {
        match dialect {
            Dialect::OpenAi => openai::errors::wrong_method(method.as_str()),
            Dialect::Anthropic => Self::new(405, "invalid_request_error", "Method Not Allowed"),
            Dialect::ElevenLabs | Dialect::Fal => Self::new(405, "method_not_allowed", "Method Not Allowed"),
        }
    }

    pub(crate) fn too_large(dialect: Dialect, limit: usize) -> Self {
        let kind = if dialect == Dialect::Anthropic { "request_too_large" } else { "invalid_request_error" };
        Self::new(413, kind, format!("The request body is larger than {limit} bytes."))
    }

    pub(crate) fn too_many(dialect: Dialect, too_many: &TooMany) -> Self {
        let refusal = match dialect {
            Dialect::OpenAi => openai::errors::too_many(too_many),
            Dialect::Anthropic => anthropic::errors::too_many(too_many),
            Dialect::ElevenLabs => elevenlabs::errors::too_many(too_many),
            Dialect::Fal => fal::errors::too_many(too_many),
        };
        Self { retry_after: Some(too_many.retry_after).filter(|after| !after.is_zero()), ..refusal }
    }

    /// What a directive asked for.
    pub(crate) fn simulated(
        dialect: Dialect,
        status: u16,
        code: Option<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        let refusal = match dialect {
            Dialect::OpenAi => openai::errors::simulated(status, code.as_deref()),
            Dialect::Anthropic => anthropic::errors::simulated(status),
            Dialect::ElevenLabs => elevenlabs::errors::simulated(status, code.as_deref()),
            Dialect::Fal => fal::errors::simulated(status),
        };
        Self { code: code.or(refusal.code), retry_after, ..refusal }
    }

    /// The body; `id` is the request's.
    pub(crate) fn body(&self, dialect: Dialect, id: &str) -> Bytes {
        let json = match dialect {
            Dialect::OpenAi => openai::errors::json(self),
            Dialect::Anthropic => anthropic::errors::json(self, id),
            Dialect::ElevenLabs => elevenlabs::errors::json(self),
            Dialect::Fal => fal::errors::json(self),
        };
        Bytes::from(json.to_string())
    }
}
