//! Errors in OpenAI's shape: status, `type`, `param` and `code` as the real API has them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

/// An answer other than the one that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) kind: &'static str,
    pub(crate) param: Option<&'static str>,
    pub(crate) code: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None, retry_after: None }
    }

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

    pub(crate) fn missing(param: &'static str) -> Self {
        Self::invalid(format!("Missing required parameter: '{param}'.")).param(param).code("missing_required_parameter")
    }

    pub(crate) fn no_key() -> Self {
        Self::new(
            401,
            "invalid_request_error",
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
             (i.e. Authorization: Bearer YOUR_KEY).",
        )
    }

    pub(crate) fn wrong_key(label: &str) -> Self {
        Self::new(401, "invalid_request_error", format!("Incorrect API key provided: {label}.")).code("invalid_api_key")
    }

    pub(crate) fn unknown_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Self::new(404, "invalid_request_error", message).code("model_not_found")
    }

    pub(crate) fn unknown_url(method: &str, path: &str) -> Self {
        Self::new(404, "invalid_request_error", format!("Invalid URL ({method} {path})")).code("unknown_url")
    }

    pub(crate) fn wrong_method(method: &str) -> Self {
        let message =
            format!("Not allowed to {method} here. (HINT: Perhaps you meant to use a different HTTP method?)");
        Self::new(405, "invalid_request_error", message).code("method_not_supported")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "invalid_request_error", format!("The request body is larger than {limit} bytes."))
    }

    pub(crate) fn too_many(limit: u32, retry_after: Duration) -> Self {
        let message = format!(
            "Rate limit reached on requests per min (RPM): Limit {limit}, Used {limit}, Requested 1. Please try again in {:.3}s.",
            retry_after.as_secs_f64()
        );
        Self { retry_after: Some(retry_after), ..Self::new(429, "requests", message).code("rate_limit_exceeded") }
    }

    /// What a directive asked for.
    pub(crate) fn simulated(status: u16, code: Option<String>, retry_after: Option<Duration>) -> Self {
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
            429 if code.as_deref() == Some("insufficient_quota") => (
                "insufficient_quota",
                None,
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached on requests per min (RPM)."),
            503 => ("server_error", None, "The engine is currently overloaded, please try again later."),
            _ if status >= 500 => {
                ("server_error", None, "The server had an error while processing your request. Sorry about that!")
            }
            _ => ("invalid_request_error", None, "The request was refused."),
        };
        let code = code.or(default_code.map(str::to_owned));
        Self { code, retry_after, ..Self::new(status, kind, message) }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }

    pub(crate) fn body(&self) -> Bytes {
        Bytes::from(self.json().to_string())
    }
}
