//! `GET /v1/models`.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::service::{Answered, Call};

/// What is listed when every model exists.
const USUAL: [&str; 6] =
    ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "text-embedding-3-small", "text-embedding-3-large"];

pub(crate) async fn list(call: &Call) -> Answered {
    let admitted = call.admit("models", "", false, None).await?;
    let configured = &call.state.options.models;
    let data: Vec<Value> = if configured.is_empty() {
        USUAL.iter().map(|name| model(name)).collect()
    } else {
        configured.iter().map(|name| model(name)).collect()
    };
    Ok(call.respond(admitted, Bytes::from(json!({"object": "list", "data": data}).to_string())))
}

pub(crate) async fn get(call: &Call, name: &str) -> Answered {
    let admitted = call.admit("models", name, false, None).await?;
    if !call.state.model_exists(name) {
        return Err(Refusal::unknown_model(name).into());
    }
    Ok(call.respond(admitted, Bytes::from(model(name).to_string())))
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"})
}
