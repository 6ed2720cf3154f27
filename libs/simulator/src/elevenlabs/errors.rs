//! ElevenLabs' errors: `{"detail":{"status","message"}}`, and the validator's list where a field is wrong.

use serde_json::{Value, json};

use crate::keys::{Counted, TooMany};
use crate::refusal::Refusal;

pub(crate) fn json(refusal: &Refusal) -> Value {
    match refusal.param {
        Some(param) => {
            json!({"detail": [{"type": refusal.kind, "loc": ["body", param], "msg": refusal.message, "input": null}]})
        }
        None => {
            let status = refusal.code.as_deref().unwrap_or(refusal.kind);
            json!({"detail": {"status": status, "message": refusal.message}})
        }
    }
}

pub(crate) fn missing(param: &'static str) -> Refusal {
    Refusal::new(422, "missing", "Field required").param(param)
}

pub(crate) fn wrong(param: &'static str, message: &str) -> Refusal {
    Refusal::new(422, "value_error", message).param(param)
}

pub(crate) fn unknown_key(given: bool) -> Refusal {
    let (status, message) = if given {
        ("invalid_api_key", "Invalid API key")
    } else {
        ("needs_authorization", "Neither authorization header nor xi-api-key received, please provide one.")
    };
    Refusal::new(401, status, message)
}

pub(crate) fn quota_exceeded(left: u64, wanted: u64) -> Refusal {
    let message = format!("You have {left} credits remaining, while {wanted} credits are required for this request.");
    Refusal::new(401, "quota_exceeded", message)
}

pub(crate) fn voice_not_found(voice: &str) -> Refusal {
    Refusal::new(404, "voice_not_found", format!("A voice with voice_id {voice} was not found."))
}

pub(crate) fn too_many(too_many: &TooMany) -> Refusal {
    let limit = too_many.limit;
    match too_many.counted {
        Counted::Concurrent => {
            let message = format!(
                "Too many concurrent requests. Your current subscription is associated with a maximum of {limit} \
                 concurrent requests (running in parallel)."
            );
            Refusal::new(429, "too_many_concurrent_requests", message)
        }
        _ => Refusal::new(429, "rate_limit_exceeded", "Rate limit exceeded, please try again later."),
    }
}

/// What a directive asked for.
pub(crate) fn simulated(status: u16, code: Option<&str>) -> Refusal {
    let (code, message) = match (status, code) {
        (_, Some("quota_exceeded")) | (402, _) => ("quota_exceeded", "This request exceeds your quota."),
        (400, _) => ("max_character_limit_exceeded", "The text is longer than the model allows."),
        (401, _) => ("invalid_api_key", "Invalid API key"),
        (404, _) => ("voice_not_found", "A voice with this voice_id was not found."),
        (429, Some("too_many_concurrent_requests")) => {
            ("too_many_concurrent_requests", "Too many concurrent requests.")
        }
        (429, _) => ("system_busy", "We are currently experiencing heavy load, please try again later."),
        (500.., _) => ("internal_server_error", "An unexpected error occurred."),
        _ => ("invalid_request", "The request was refused."),
    };
    Refusal::new(status, code, message)
}
