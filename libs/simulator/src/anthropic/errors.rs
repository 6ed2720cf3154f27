//! Anthropic's errors: `{"type":"error","error":{"type","message"},"request_id"}`.

use serde_json::{Value, json};

use crate::keys::{Counted, TooMany};
use crate::refusal::Refusal;

pub(crate) fn json(refusal: &Refusal, id: &str) -> Value {
    json!({
        "type": "error",
        "error": {"type": refusal.kind, "message": refusal.message},
        "request_id": format!("req_{id}"),
    })
}

/// A field that is wrong, named by its path: `messages.0.content`.
pub(crate) fn invalid(path: &str, what: &str) -> Refusal {
    Refusal::invalid(format!("{path}: {what}"))
}

pub(crate) fn unknown_key(given: bool) -> Refusal {
    let message = if given { "invalid x-api-key" } else { "x-api-key header is required" };
    Refusal::new(401, "authentication_error", message)
}

pub(crate) fn no_version() -> Refusal {
    Refusal::invalid("anthropic-version: header is required")
}

pub(crate) fn unknown_model(name: &str) -> Refusal {
    Refusal::new(404, "not_found_error", format!("model: {name}"))
}

pub(crate) fn too_many(too_many: &TooMany) -> Refusal {
    let limit = too_many.limit;
    let what = match too_many.counted {
        Counted::Requests => format!("{limit} requests per minute"),
        Counted::Tokens => format!("{limit} tokens per minute"),
        Counted::InputTokens => format!("{limit} input tokens per minute"),
        Counted::OutputTokens => format!("{limit} output tokens per minute"),
        Counted::Concurrent => "concurrent connections".to_owned(),
    };
    let message = format!("This request would exceed your organization's rate limit of {what}.");
    Refusal::new(429, "rate_limit_error", message)
}

/// What a directive asked for.
pub(crate) fn simulated(status: u16) -> Refusal {
    let (kind, message) = match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the Anthropic API."),
        403 => ("permission_error", "Your API key does not have permission to use the specified resource."),
        404 => ("not_found_error", "The requested resource could not be found."),
        413 => ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
        429 => ("rate_limit_error", "This request would exceed your organization's rate limit."),
        504 => ("timeout_error", "Request timed out."),
        529 => ("overloaded_error", "Overloaded"),
        _ if status >= 500 => ("api_error", "Internal server error"),
        _ => ("invalid_request_error", "The request was refused."),
    };
    Refusal::new(status, kind, message)
}
