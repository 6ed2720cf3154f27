//! `GET /v1/models`.

use serde_json::{Value, json};

use super::errors;
use crate::service::{Answered, Asking, Call, Output};

/// What is listed when every model exists.
const USUAL: [&str; 3] = ["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"];

pub(crate) async fn list(call: &Call) -> Answered {
    let admitted = call.admit(Asking::of("models", "")).await?;
    let configured = &call.state.options.models;
    let names: Vec<&str> = match configured.as_slice() {
        [] => USUAL.to_vec(),
        configured => configured.iter().map(String::as_str).collect(),
    };
    let data: Vec<Value> = names.iter().map(|name| model(name)).collect();
    let body = json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()});
    Ok(call.respond(admitted, Output::json(body.to_string())))
}

pub(crate) async fn get(call: &Call, name: &str) -> Answered {
    let admitted = call.admit(Asking::of("models", name)).await?;
    if !call.state.model_exists(name) {
        return Err(errors::unknown_model(name).into());
    }
    Ok(call.respond(admitted, Output::json(model(name).to_string())))
}

fn model(name: &str) -> Value {
    json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-09-29T00:00:00Z"})
}
