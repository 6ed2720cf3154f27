//! OpenAI's errors: status, `type`, `param` and `code` as the real API has them.

use serde_json::{Value, json};

use crate::keys::{Counted, TooMany};
use crate::refusal::Refusal;

pub(crate) fn json(refusal: &Refusal) -> Value {
    json!({"error": {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}})
}

pub(crate) fn missing(param: &'static str) -> Refusal {
    Refusal::invalid(format!("Missing required parameter: '{param}'.")).param(param).code("missing_required_parameter")
}

pub(crate) fn unknown_key(label: Option<&str>) -> Refusal {
    match label {
        None => Refusal::new(
            401,
            "invalid_request_error",
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
             (i.e. Authorization: Bearer YOUR_KEY).",
        ),
        Some(label) => Refusal::new(401, "invalid_request_error", format!("Incorrect API key provided: {label}."))
            .code("invalid_api_key"),
    }
}

pub(crate) fn unknown_model(name: &str) -> Refusal {
    let message = format!("The model `{name}` does not exist or you do not have access to it.");
    Refusal::new(404, "invalid_request_error", message).code("model_not_found")
}

pub(crate) fn unknown_url(method: &str, path: &str) -> Refusal {
    Refusal::new(404, "invalid_request_error", format!("Invalid URL ({method} {path})")).code("unknown_url")
}

pub(crate) fn wrong_method(method: &str) -> Refusal {
    let message = format!("Not allowed to {method} here. (HINT: Perhaps you meant to use a different HTTP method?)");
    Refusal::new(405, "invalid_request_error", message).code("method_not_supported")
}

pub(crate) fn too_many(too_many: &TooMany) -> Refusal {
    let TooMany { limit, used, requested, retry_after, .. } = *too_many;
    let (kind, what) = match too_many.counted {
        Counted::Requests => ("requests", "requests per min (RPM)"),
        Counted::Concurrent => ("requests", "concurrent requests"),
        Counted::Tokens => ("tokens", "tokens per min (TPM)"),
        Counted::InputTokens => ("tokens", "input tokens per min"),
        Counted::OutputTokens => ("tokens", "output tokens per min"),
    };
    let message = if requested > limit {
        format!("Request too large on {what}: Limit {limit}, Requested {requested}.")
    } else {
        let wait = retry_after.as_secs_f64();
        format!(
            "Rate limit reached on {what}: Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait:.3}s."
        )
    };
    Refusal::new(429, kind, message).code("rate_limit_exceeded")
}

/// What a directive asked for.
pub(crate) fn simulated(status: u16, code: Option<&str>) -> Refusal {
    let (kind, default_code, message) = match status {
        400 => ("invalid_request_error", None, "The request is not well-formed."),
        401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
        402 => ("insufficient_quota", Some("insufficient_balance"), "Insufficient balance."),
        403 => (
            "invalid_request_error",
            Some("unsupported_country_region_territory"),
            "Country, region, or territory not supported.",
        ),
        404 => (
            "invalid_request_error",
            Some("model_not_found"),
            "The model does not exist or you do not have access to it.",
        ),
        413 => ("invalid_request_error", None, "The request is too large."),
        429 if code == Some("insufficient_quota") => {
            ("insufficient_quota", None, "You exceeded your current quota, please check your plan and billing details.")
        }
        429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached on requests per min (RPM)."),
        503 => ("server_error", None, "The engine is currently overloaded, please try again later."),
        _ if status >= 500 => {
            ("server_error", None, "The server had an error while processing your request. Sorry about that!")
        }
        _ => ("invalid_request_error", None, "The request was refused."),
    };
    Refusal { code: default_code.map(str::to_owned), ..Refusal::new(status, kind, message) }
}
