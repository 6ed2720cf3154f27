//! What a client puts together from a stream: the whole answer that the stream stands for.

use serde_json::{Value, json};

/// The data of server-sent events, in their order.
pub(super) fn data(text: &str) -> Vec<&str> {
    text.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: "))).collect()
}

fn append(place: &mut Value, piece: &Value) {
    if let Some(piece) = piece.as_str() {
        let so_far = place.as_str().unwrap_or_default().to_owned();
        *place = Value::from(so_far + piece);
    }
}

/// The completion that chunks add up to.
pub(super) fn completion(text: &str) -> Value {
    let data = data(text);
    assert_eq!(data.last(), Some(&"[DONE]"), "{text}");
    let mut whole = json!({"object": "chat.completion"});
    let mut message = json!({"role": null, "content": null, "refusal": null});
    let mut thought = Value::Null;
    for chunk in &data[..data.len() - 1] {
        let chunk: Value = serde_json::from_str(chunk).expect("a chunk is JSON");
        assert_eq!(chunk["object"], "chat.completion.chunk");
        for field in ["id", "model", "created"] {
            assert!(whole.get(field).is_none_or(|known| *known == chunk[field]), "chunks belong together");
            whole[field] = chunk[field].clone();
        }
        if !chunk["usage"].is_null() {
            whole["usage"] = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        let delta = &choice["delta"];
        if let Some(role) = delta.get("role") {
            message["role"] = role.clone();
        }
        for field in ["content", "reasoning_content"] {
            if delta[field].as_str().is_some_and(|piece| !piece.is_empty()) {
                append(&mut message[field], &delta[field]);
            }
        }
        append(&mut thought, &delta["reasoning_content"]);
        for block in delta["thinking_blocks"].as_array().into_iter().flatten() {
            if message.get("thinking_blocks").is_none() {
                message["thinking_blocks"] = json!([]);
            }
            let whole = match block.get("data") {
                Some(data) => json!({"type": "redacted_thinking", "data": data}),
                None => json!({"type": "thinking", "thinking": thought.take().as_str().unwrap_or_default(),
                    "signature": block["signature"]}),
            };
            message["thinking_blocks"].as_array_mut().expect("an array").push(whole);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            calls(&mut message, call);
        }
        if !choice["finish_reason"].is_null() {
            let mut ended = json!({"index": 0, "logprobs": null, "finish_reason": choice["finish_reason"]});
            if let Some(sequence) = choice.get("stop_reason") {
                ended["stop_reason"] = sequence.clone();
            }
            assert!(whole.get("choices").is_none(), "there is one end");
            whole["choices"] = json!([ended]);
        }
    }
    whole["choices"][0]["message"] = message;
    whole
}

fn calls(message: &mut Value, call: &Value) {
    if message.get("tool_calls").is_none() {
        message["tool_calls"] = json!([]);
    }
    let calls = message["tool_calls"].as_array_mut().expect("an array");
    let index = usize::try_from(call["index"].as_u64().expect("a number")).expect("small");
    if index == calls.len() {
        assert!(call["id"].is_string() && call["function"]["name"].is_string(), "the first piece names the call");
        calls.push(json!({"id": call["id"], "type": "function",
            "function": {"name": call["function"]["name"], "arguments": ""}}));
    }
    append(&mut calls[index]["function"]["arguments"], &call["function"]["arguments"]);
}

/// The message that events add up to; checks that they come in the order of the real API.
pub(super) fn message(text: &str) -> Value {
    let mut whole = Value::Null;
    let mut open: Option<u64> = None;
    let mut ended = false;
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let (name, data) = event.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        assert!(!ended, "nothing comes after the end");
        let index = data["index"].as_u64();
        let at = usize::try_from(index.unwrap_or(0)).expect("small");
        match data["type"].as_str().expect("a string") {
            "message_start" => {
                assert!(whole.is_null());
                whole = data["message"].clone();
            }
            "content_block_start" => {
                assert_eq!((open, whole["content"].as_array().map(Vec::len)), (None, Some(at)));
                open = index;
                whole["content"].as_array_mut().expect("an array").push(data["content_block"].clone());
            }
            "content_block_delta" => {
                let block = &mut whole["content"][at];
                let delta = &data["delta"];
                match delta["type"].as_str().expect("a string") {
                    "text_delta" => append(&mut block["text"], &delta["text"]),
                    "thinking_delta" => append(&mut block["thinking"], &delta["thinking"]),
                    "signature_delta" => append(&mut block["signature"], &delta["signature"]),
                    "input_json_delta" => append(&mut block["json"], &delta["partial_json"]),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
            }
            "message_delta" => {
                assert_eq!(open, None);
                whole["stop_reason"] = data["delta"]["stop_reason"].clone();
                whole["stop_sequence"] = data["delta"]["stop_sequence"].clone();
                whole["usage"] = data["usage"].clone();
            }
            "message_stop" => ended = true,
            other => panic!("{other}"),
        }
    }
    assert!(ended, "{text}");
    for block in whole["content"].as_array_mut().expect("an array") {
        let json = block.as_object_mut().and_then(|block| block.remove("json"));
        if let Some(json) = json {
            block["input"] = serde_json::from_str(json.as_str().expect("a string")).expect("whole arguments");
        }
    }
    whole
}
