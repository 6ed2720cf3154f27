//! Whole answers, by table.

use serde_json::{Value, json};
use weir_ai_broker::domain::dialects::{Envelope, anthropic_client, openai_client};

use super::{ENVELOPE, chat_answer, message_answer, parsed};

fn message(content: Value, stop_reason: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 5}})
}

fn completion(message: Value, finish_reason: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
            "prompt_tokens_details": {"cached_tokens": 7}, "completion_tokens_details": {"reasoning_tokens": 2}},
        "system_fingerprint": "fp"})
}

#[test]
fn a_message_with_thought_text_and_calls_becomes_a_completion() {
    let content = json!([
        {"type": "thinking", "thinking": "Hm.\n", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "high \u{1f30a}.", "citations": [{"type": "char_location"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "level", "input": {"at": "n\"orth"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}
    ]);
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        chat_answer(&message(content, "tool_use")),
        json!({
            "id": "msg_1", "object": "chat.completion", "created": 1_700_000_000, "model": "claude",
            "choices": [{"index": 0, "message": {
                "role": "assistant", "content": "It is high \u{1f30a}.", "refusal": null, "reasoning_content": "Hm.\n",
                "thinking_blocks": [{"type": "thinking", "thinking": "Hm.\n", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "xyz"}],
                "tool_calls": [call("toolu_1", "level", "{\"at\":\"n\\\"orth\"}"), call("toolu_2", "now", "{}")]
            }, "logprobs": null, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
                "prompt_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 3, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}
        })
    );
}

#[test]
fn a_completion_becomes_a_message() {
    let said = json!({"role": "assistant", "content": "Look:", "refusal": null, "reasoning_content": "Hm.", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "level", "arguments": " {\"at\": \"north\"} "}},
        {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": ""}}]});
    assert_eq!(
        message_answer(&completion(said, "tool_calls")),
        json!({
            "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "Look:"},
                {"type": "tool_use", "id": "call_1", "name": "level", "input": {"at": "north"}},
                {"type": "tool_use", "id": "call_2", "name": "now", "input": {}}
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 13, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 2}}
        })
    );
}

#[test]
fn every_end_has_a_counterpart() {
    let text = || json!([{"type": "text", "text": "x"}]);
    for (theirs, ours) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ] {
        assert_eq!(chat_answer(&message(text(), theirs))["choices"][0]["finish_reason"], ours, "{theirs}");
    }
    let said = json!({"role": "assistant", "content": "x"});
    for (theirs, ours) in [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")] {
        assert_eq!(message_answer(&completion(said.clone(), theirs))["stop_reason"], ours, "{theirs}");
    }
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I won't."});
    let told = message_answer(&completion(refusal, "stop"));
    assert_eq!((&told["stop_reason"], &told["content"][0]["text"]), (&json!("refusal"), &json!("I won't.")));
    let calls = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    assert_eq!(message_answer(&completion(calls, "stop"))["stop_reason"], "tool_use", "as some servers end");
}

#[test]
fn the_stop_sequence_that_was_met_survives() {
    let mut stopped = message(json!([{"type": "text", "text": "x"}]), "stop_sequence");
    stopped["stop_sequence"] = "END".into();
    let there = chat_answer(&stopped);
    assert_eq!(
        (&there["choices"][0]["finish_reason"], &there["choices"][0]["stop_reason"]),
        (&json!("stop"), &json!("END"))
    );
    let back = message_answer(&there);
    assert_eq!((&back["stop_reason"], &back["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
}

#[test]
fn answers_call_themselves_as_they_are_told() {
    let envelope = Envelope { id: Some("weir-\"1\""), model: Some("fast"), created: 5 };
    let body = message(json!([]), "end_turn").to_string();
    let chat = parsed(&openai_client::answer(body.as_bytes(), &envelope).expect("a message"));
    assert_eq!((&chat["id"], &chat["model"], &chat["created"]), (&json!("weir-\"1\""), &json!("fast"), &json!(5)));
    assert_eq!(chat["choices"][0]["message"]["content"], Value::Null);
    let body = completion(json!({"role": "assistant", "content": ""}), "stop").to_string();
    let message = parsed(&anthropic_client::answer(body.as_bytes(), &envelope).expect("a completion"));
    assert_eq!(
        (&message["id"], &message["model"], &message["content"]),
        (&json!("weir-\"1\""), &json!("fast"), &json!([]))
    );
}

#[test]
fn what_is_no_answer_is_an_error() {
    for body in ["", "{}", "<html>", r#"{"choices":[]}"#, r#"{"content":"x"}"#, r#"{"error":{"message":"x"}}"#] {
        assert!(openai_client::answer(body.as_bytes(), &ENVELOPE).is_err(), "{body}");
        assert!(anthropic_client::answer(body.as_bytes(), &ENVELOPE).is_err(), "{body}");
    }
    let calls = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"cut\": "}}]});
    let cut = completion(calls, "length").to_string();
    let error = anthropic_client::answer(cut.as_bytes(), &ENVELOPE).expect_err("arguments are cut off");
    assert_eq!(error.field(), "choices[0].message.tool_calls[0].function.arguments");
}
