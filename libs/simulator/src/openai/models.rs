//! `GET /v1/models`.

use serde_json::{Value, json};

use super::errors;
use crate::service::{Answered, Asking, Call, Output};

/// What is listed when every model exists.
const USUAL: [&str; 10] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "whisper-1",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-tts",
    "gpt-image-1",
];

pub(crate) async fn list(call: &Call) -> Answered {
    let admitted = call.admit(Asking::of("models", "")).await?;
    let configured = &call.state.options.models;
    let data: Vec<Value> = if configured.is_empty() {
        USUAL.iter().map(|name| model(name)).collect()
    } else {
        configured.iter().map(|name| model(name)).collect()
    };
    Ok(call.respond(admitted, Output::json(json!({"object": "list", "data": data}).to_string())))
}

pub(crate) async fn get(call: &Call, name: &str) -> Answered {
    let admitted = call.admit(Asking::of("models", name)).await?;
    if !call.state.model_exists(name) {
        return Err(errors::unknown_model(name).into());
    }
    Ok(call.respond(admitted, Output::json(model(name).to_string())))
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"})
}
