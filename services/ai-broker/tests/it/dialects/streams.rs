//! Streams: what they add up to is the whole answer, wherever they are cut.

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_ai_broker::domain::dialects::{Envelope, anthropic_client, openai_client};

use super::generated::{answer, pieces};
use super::{ENVELOPE, assembled, chat_answer, message_answer};

/// The data of the events of a message.
fn events(message: &Value, sizes: &[usize]) -> Vec<String> {
    let mut start = message.clone();
    let usage = message["usage"].clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["stop_sequence"] = Value::Null;
    start["usage"] = usage.clone();
    start["usage"]["output_tokens"] = 1.into();
    let mut events = vec![json!({"type": "message_start", "message": start}), json!({"type": "ping"})];
    for (index, block) in message["content"].as_array().unwrap().iter().enumerate() {
        let mut empty = block.clone();
        let (kind, field, whole) = match block["type"].as_str().unwrap() {
            "text" => ("text_delta", "text", block["text"].as_str().unwrap().to_owned()),
            "thinking" => ("thinking_delta", "thinking", block["thinking"].as_str().unwrap().to_owned()),
            "tool_use" => ("input_json_delta", "partial_json", block["input"].to_string()),
            _ => ("", "", String::new()),
        };
        match kind {
            "input_json_delta" => empty["input"] = json!({}),
            "" => {}
            _ => empty[field] = "".into(),
        }
        if kind == "thinking_delta" {
            empty["signature"] = "".into();
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": empty}));
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        if kind == "input_json_delta" {
            events.push(delta(json!({"type": kind, "partial_json": ""})));
        }
        for piece in pieces(&whole, sizes) {
            let mut added = json!({"type": kind});
            added[field] = piece.into();
            events.push(delta(added));
        }
        if kind == "thinking_delta" {
            events.push(delta(json!({"type": "signature_delta", "signature": block["signature"]})));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(Value::to_string).collect()
}

/// The data of the chunks of a completion.
fn chunks(completion: &Value, sizes: &[usize]) -> Vec<String> {
    let chunk = |choices: Value| {
        json!({"id": completion["id"], "object": "chat.completion.chunk", "created": 1, "model": completion["model"],
            "choices": choices, "usage": null})
    };
    let add = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let mut chunks = vec![add(json!({"role": "assistant", "content": ""}))];
    for field in ["reasoning_content", "content"] {
        for piece in pieces(message[field].as_str().unwrap_or_default(), sizes) {
            let mut delta = json!({});
            delta[field] = piece.into();
            chunks.push(add(delta));
        }
    }
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut first = call.clone();
        first["index"] = index.into();
        first["function"]["arguments"] = "".into();
        chunks.push(add(json!({"tool_calls": [first]})));
        for piece in pieces(call["function"]["arguments"].as_str().unwrap(), sizes) {
            chunks.push(add(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})));
        }
    }
    let mut end = json!({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]});
    if let Some(sequence) = choice.get("stop_reason") {
        end["stop_reason"] = sequence.clone();
    }
    chunks.push(chunk(json!([end])));
    let mut usage = chunk(json!([]));
    usage["usage"] = completion["usage"].clone();
    chunks.push(usage);
    chunks.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect()
}

fn to_chunks(events: &[String], include_usage: bool) -> String {
    let mut stream = openai_client::Stream::new(&ENVELOPE, include_usage);
    let mut out = String::new();
    for event in events {
        assert!(!stream.is_done());
        stream.event(event.as_bytes(), &mut out).expect("an event");
    }
    assert!(stream.is_done());
    out
}

fn to_events(chunks: &[String]) -> String {
    let mut stream = anthropic_client::Stream::new(&ENVELOPE);
    let mut out = String::new();
    for chunk in chunks {
        assert!(!stream.is_done());
        stream.event(chunk.as_bytes(), &mut out).expect("a chunk");
    }
    assert!(stream.is_done());
    out
}

proptest! {
    #[test]
    fn a_streamed_message_adds_up_to_the_translated_whole(
        answer in answer(), sizes in prop::collection::vec(1..9_usize, 1..5)
    ) {
        let message = answer.message();
        let streamed = assembled::completion(&to_chunks(&events(&message, &sizes), true));
        let whole = chat_answer(&message);
        prop_assert_eq!(sorted(&streamed), sorted(&whole));
    }

    #[test]
    fn a_streamed_completion_adds_up_to_the_translated_whole(
        answer in answer(), sizes in prop::collection::vec(1..9_usize, 1..5)
    ) {
        let completion = answer.completion();
        let streamed = assembled::message(&to_events(&chunks(&completion, &sizes)));
        let whole = message_answer(&completion);
        prop_assert_eq!(sorted(&streamed), sorted(&whole));
    }

    #[test]
    fn a_stream_survives_the_way_there_and_back(
        answer in answer(), sizes in prop::collection::vec(1..9_usize, 1..5)
    ) {
        let message = answer.message();
        let there = to_chunks(&events(&message, &sizes), true);
        let data: Vec<String> = assembled::data(&there).into_iter().map(str::to_owned).collect();
        let returned = assembled::message(&to_events(&data));
        let whole = message_answer(&chat_answer(&message));
        prop_assert_eq!(sorted(&returned), sorted(&whole));
    }
}

/// With its fields in order, so that only what is said is compared.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            names.into_iter().map(|name| (name.clone(), sorted(&fields[name]))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;

#[test]
fn each_event_becomes_its_chunk_at_once() {
    let mut stream = openai_client::Stream::new(&Envelope { model: Some("fast"), ..ENVELOPE }, false);
    let mut say = |event: &str| {
        let mut out = String::new();
        stream.event(event.as_bytes(), &mut out).expect("an event");
        out
    };
    let start = r#"data: {"id":"msg_1","object":"chat.completion.chunk","created":1700000000,"model":"fast","choices":[{"index":0,"delta":"#;
    let chunk = |delta: &str, end: &str| format!("{start}{delta},\"logprobs\":null,\"finish_reason\":{end}}}]}}\n\n");
    assert_eq!(say(START), chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"));
    assert_eq!(say(r#"{"type":"ping"}"#), "");
    assert_eq!(say(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#), "");
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\u00e9\n"}}"#;
    assert_eq!(say(delta), chunk(r#"{"content":"a\u00e9\n"}"#, "null"));
    assert_eq!(say(r#"{"type":"content_block_stop","index":0}"#), "");
    assert_eq!(say(r#"{"type":"something_new","x":1}"#), "");
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":3}}"#;
    assert_eq!(say(end), chunk("{}", "\"length\""));
    assert_eq!(say(r#"{"type":"message_stop"}"#), "data: [DONE]\n\n");
    assert_eq!(say(delta), "", "nothing comes after the end");
    assert_eq!(stream.usage().map(|usage| (usage.input, usage.output)), Some((9, 3)));
}

#[test]
fn an_error_in_a_stream_is_told_in_the_clients_shape_and_ends_it() {
    let mut out = String::new();
    let mut stream = openai_client::Stream::new(&ENVELOPE, true);
    stream.event(START.as_bytes(), &mut out).expect("an event");
    out.clear();
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    stream.event(error.as_bytes(), &mut out).expect("an event");
    assert_eq!(
        out,
        "data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}\n\ndata: [DONE]\n\n"
    );
    assert!(stream.is_done());

    let mut stream = anthropic_client::Stream::new(&ENVELOPE);
    out.clear();
    let error = r#"{"error":{"message":"Slow down","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    stream.event(error.as_bytes(), &mut out).expect("a chunk");
    assert_eq!(
        out,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Slow down\"}}\n\n"
    );
    assert!(stream.is_done());
}

#[test]
fn a_stream_that_was_cut_off_is_not_done_and_can_be_ended_with_an_error() {
    let mut stream = openai_client::Stream::new(&ENVELOPE, true);
    let mut out = String::new();
    stream.event(START.as_bytes(), &mut out).expect("an event");
    assert!(!stream.is_done());
    out.clear();
    stream.fail(r#"{"error":{"message":"cut"}}"#, &mut out);
    assert_eq!(out, "data: {\"error\":{\"message\":\"cut\"}}\n\ndata: [DONE]\n\n");
    stream.fail(r#"{"error":{}}"#, &mut out);
    assert_eq!(out.matches("[DONE]").count(), 1);
}

#[test]
fn a_whole_answer_whose_end_was_not_marked_is_ended() {
    let events = [START, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#];
    let (mut stream, mut out) = (openai_client::Stream::new(&ENVELOPE, false), String::new());
    stream.event(events[0].as_bytes(), &mut out).expect("an event");
    assert!(!stream.finish(&mut out));
    stream.event(events[1].as_bytes(), &mut out).expect("an event");
    assert!(stream.finish(&mut out) && stream.finish(&mut out));
    assert_eq!(out.matches("[DONE]").count(), 1);

    let chunks = [
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}"#,
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    ];
    let (mut stream, mut out) = (anthropic_client::Stream::new(&ENVELOPE), String::new());
    stream.event(chunks[0].as_bytes(), &mut out).expect("a chunk");
    assert!(!stream.finish(&mut out));
    stream.event(chunks[1].as_bytes(), &mut out).expect("a chunk");
    stream.event(chunks[2].as_bytes(), &mut out).expect("a chunk");
    assert!(stream.finish(&mut out) && stream.finish(&mut out));
    assert_eq!(assembled::message(&out)["usage"]["output_tokens"], 2);
}

#[test]
fn what_is_no_event_is_an_error_and_leaves_the_stream_as_it_was() {
    for broken in ["", "{", "[]", r#"{"kind":"x"}"#, "[DONE]x"] {
        let mut out = String::new();
        let mut chat = openai_client::Stream::new(&ENVELOPE, true);
        assert!(chat.event(broken.as_bytes(), &mut out).is_err(), "{broken}");
        let mut messages = anthropic_client::Stream::new(&ENVELOPE);
        assert!(messages.event(broken.as_bytes(), &mut out).is_err(), "{broken}");
        assert!(out.is_empty() && !chat.is_done() && !messages.is_done());
    }
}

#[test]
fn pieces_of_parallel_calls_may_come_mixed() {
    let chunk = |delta: &str| format!(r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let named = |index: u8| {
        chunk(&format!(
            r#"{{"tool_calls":[{{"index":{index},"id":"call_{index}","function":{{"name":"f","arguments":""}}}}]}}"#
        ))
    };
    let piece = |index: u8, piece: &str| {
        chunk(&format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"{piece}"}}}}]}}"#))
    };
    let chunks = [
        named(0),
        named(1),
        piece(0, r#"{\"a\":"#),
        piece(1, r#"{\"b\":"#),
        piece(0, "1}"),
        piece(1, "2}"),
        "[DONE]".to_owned(),
    ];
    let message = assembled::message(&to_events(&chunks));
    assert_eq!(
        (&message["content"][0]["input"], &message["content"][1]["input"]),
        (&json!({"a": 1}), &json!({"b": 2}))
    );
}

#[test]
fn a_stream_keeps_nothing_of_what_it_has_passed_on() {
    let mut stream = openai_client::Stream::new(&ENVELOPE, true);
    let mut out = String::new();
    stream.event(START.as_bytes(), &mut out).expect("an event");
    let long = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{}"}}}}"#,
        "x".repeat(10_000)
    );
    let before = format!("{stream:?}").len();
    for _ in 0..100 {
        out.clear();
        stream.event(long.as_bytes(), &mut out).expect("an event");
    }
    assert_eq!(format!("{stream:?}").len(), before);

    let mut stream = anthropic_client::Stream::new(&ENVELOPE);
    let long =
        format!(r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(10_000));
    stream.event(long.as_bytes(), &mut out).expect("a chunk");
    let before = format!("{stream:?}").len();
    for _ in 0..100 {
        out.clear();
        stream.event(long.as_bytes(), &mut out).expect("a chunk");
    }
    assert_eq!(format!("{stream:?}").len(), before);
}
