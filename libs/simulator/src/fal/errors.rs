//! FAL's errors: `{"detail": …}`, a text or the validator's list, with the class in `error_type`.

use serde_json::{Value, json};

use crate::keys::{Counted, TooMany};
use crate::refusal::Refusal;

pub(crate) fn json(refusal: &Refusal) -> Value {
    match refusal.param {
        Some(param) => {
            json!({"detail": [{"loc": ["body", param], "msg": refusal.message, "type": refusal.kind, "input": null}]})
        }
        None => json!({"detail": refusal.message, "error_type": refusal.kind}),
    }
}

pub(crate) fn missing(param: &'static str) -> Refusal {
    Refusal::new(422, "missing", "Field required").param(param)
}

pub(crate) fn wrong(param: &'static str, message: &str) -> Refusal {
    Refusal::new(422, "value_error", message).param(param)
}

pub(crate) fn unknown_key(given: bool) -> Refusal {
    let message = if given {
        "Cannot access application. Authentication is required to access this application."
    } else {
        "Authentication is required to access this application."
    };
    Refusal::new(401, "unauthorized", message)
}

pub(crate) fn unknown_request() -> Refusal {
    Refusal::new(404, "not_found", "Request not found")
}

pub(crate) fn too_many(too_many: &TooMany) -> Refusal {
    let limit = too_many.limit;
    let message = match too_many.counted {
        Counted::Concurrent => format!("Concurrent request limit of {limit} exceeded."),
        _ => format!("Rate limit of {limit} requests per minute exceeded."),
    };
    Refusal::new(429, "rate_limited", message)
}

/// What a directive asked for.
pub(crate) fn simulated(status: u16) -> Refusal {
    let (kind, message) = match status {
        401 => ("unauthorized", "Authentication is required to access this application."),
        402 => ("payment_required", "User is locked. Reason: Exhausted balance."),
        403 => ("forbidden", "User is locked. Reason: Exhausted balance."),
        404 => ("not_found", "Application not found"),
        422 => ("bad_request", "The request could not be processed."),
        429 => ("rate_limited", "Rate limit exceeded."),
        503 => ("runner_scheduling_failure", "No runner could be scheduled."),
        504 => ("request_timeout", "The request timed out."),
        _ if status >= 500 => ("internal_server_error", "Internal server error"),
        _ => ("bad_request", "The request was refused."),
    };
    Refusal::new(status, kind, message)
}
