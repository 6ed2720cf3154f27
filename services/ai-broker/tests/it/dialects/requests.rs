//! Requests, by table.

use serde_json::{Value, json};
use weir_ai_broker::domain::dialects::{Target, ThinkingStyle, TranslateError, anthropic_client, openai_client};

use super::{parsed, target, to_chat, to_messages};

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

fn message(extra: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

#[test]
fn an_agents_conversation_goes_over_whole() {
    let asked = json!({
        "model": "assistant", "max_completion_tokens": 900, "temperature": 0.2, "top_p": 0.9, "stop": ["\n\n", "END"],
        "stream": true, "stream_options": {"include_usage": true}, "user": "u-17", "parallel_tool_calls": false,
        "metadata": {"team": "river"}, "prompt_cache_key": "k", "n": 1, "logprobs": false, "presence_penalty": 0,
        "tools": [
            {"type": "function", "function": {"name": "level", "description": "Level of \"a\" river",
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}, "strict": true}},
            {"type": "function", "function": {"name": "now"}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "level"}},
        "messages": [
            {"role": "system", "content": "You watch rivers."},
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [
                {"type": "text", "text": "Is it \u{1f30a} high?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/weir.jpg"}},
                {"type": "file", "file": {"filename": "map.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "level", "arguments": "{\"at\": \"north\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]},
            {"role": "tool", "tool_call_id": "call_1", "name": "level", "content": "2.1 m"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
            {"role": "user", "content": "And now?"}
        ]
    });
    let expected = json!({
        "model": "the-model", "max_tokens": 900,
        "system": [{"type": "text", "text": "You watch rivers."}, {"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Is it \u{1f30a} high?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/weir.jpg"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                    "title": "map.pdf"}
            ]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "level", "input": {"at": "north"}},
                {"type": "tool_use", "id": "call_2", "name": "now", "input": {}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "2.1 m"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
                {"type": "text", "text": "And now?"}
            ]}
        ],
        "tools": [
            {"name": "level", "description": "Level of \"a\" river", "strict": true,
                "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}},
            {"name": "now", "input_schema": {"type": "object", "properties": {}}}
        ],
        "tool_choice": {"type": "tool", "name": "level", "disable_parallel_tool_use": true},
        "temperature": 0.2, "top_p": 0.9, "stop_sequences": ["\n\n", "END"],
        "metadata": {"user_id": "u-17"}, "stream": true
    });
    assert_eq!(to_messages(&asked).expect("expressible"), expected);
}

#[test]
fn a_conversation_of_claudes_goes_over_whole() {
    let asked = json!({
        "model": "claude", "max_tokens": 900, "temperature": 0.2, "stop_sequences": ["END"], "stream": true,
        "system": [{"type": "text", "text": "You watch rivers.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be brief."}],
        "metadata": {"user_id": "u-17"}, "service_tier": "standard_only",
        "tools": [{"name": "level", "description": "Level", "input_schema": {"type": "object"},
            "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "document", "title": "map.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "level", "input": {"at": "north"}},
                {"type": "tool_use", "id": "toolu_2", "name": "level", "input": {"at": "south"}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "2.1 m"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": "no gauge"},
                {"type": "text", "text": "And?"}
            ]}
        ]
    });
    let call = |id: &str, at: &str| json!({"id": id, "type": "function", "function": {"name": "level", "arguments": format!("{{\"at\":\"{at}\"}}")}});
    let expected = json!({
        "model": "the-model", "max_completion_tokens": 900,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "You watch rivers."}, {"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "file", "file": {"filename": "map.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
            ]},
            {"role": "assistant", "content": "Let me look.", "tool_calls": [call("toolu_1", "north"), call("toolu_2", "south")]},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "2.1 m"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": [
                {"type": "text", "text": "The call failed:"}, {"type": "text", "text": "no gauge"}]},
            {"role": "user", "content": "And?"}
        ],
        "tools": [{"type": "function", "function": {"name": "level", "description": "Level", "parameters": {"type": "object"}}}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "temperature": 0.2, "stop": ["END"], "user": "u-17", "service_tier": "default",
        "stream": true, "stream_options": {"include_usage": true}
    });
    let there = to_chat(&asked).expect("expressible");
    assert_eq!(there, expected);
    let back = to_messages(&there).expect("expressible");
    assert_eq!(back["messages"][2]["content"][1]["is_error"], true);
    assert_eq!(back["messages"][2]["content"][1]["content"], json!([{"type": "text", "text": "no gauge"}]));
}

#[test]
fn the_output_is_bounded_even_where_the_client_set_no_bound() {
    assert_eq!(to_messages(&chat(json!({}))).expect("expressible")["max_tokens"], 4_096);
    assert_eq!(to_messages(&chat(json!({"max_tokens": 7}))).expect("expressible")["max_tokens"], 7);
    let both = json!({"max_tokens": 7, "max_completion_tokens": 8});
    assert_eq!(to_messages(&chat(both)).expect("expressible")["max_tokens"], 8);
    let older = Target { max_tokens_field: "max_tokens", ..target() };
    let body = anthropic_client::request(message(json!({})).to_string().as_bytes(), &older).expect("expressible");
    assert_eq!(parsed(&body)["max_tokens"], 100);
}

#[test]
fn thinking_is_a_budget_or_an_effort_as_the_model_takes_it() {
    let ask = |effort: &str, style: ThinkingStyle| {
        let body = chat(json!({"reasoning_effort": effort, "max_completion_tokens": 20_000})).to_string();
        let body =
            openai_client::request(body.as_bytes(), &Target { thinking: style, ..target() }).expect("expressible");
        let body = parsed(&body);
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let budget = |tokens: u64| (json!({"type": "enabled", "budget_tokens": tokens}), Value::Null);
    assert_eq!(ask("minimal", ThinkingStyle::Budget), budget(1_024));
    assert_eq!(ask("medium", ThinkingStyle::Budget), budget(4_096));
    assert_eq!(ask("max", ThinkingStyle::Budget), budget(19_999), "less than the whole output");
    assert_eq!(ask("none", ThinkingStyle::Budget), (Value::Null, Value::Null));
    assert_eq!(ask("xhigh", ThinkingStyle::Effort), (json!({"type": "adaptive"}), json!("xhigh")));

    let effort = |extra: Value| to_chat(&message(extra)).expect("expressible")["reasoning_effort"].clone();
    assert_eq!(effort(json!({"thinking": {"type": "enabled", "budget_tokens": 16_000}})), "high");
    assert_eq!(effort(json!({"thinking": {"type": "adaptive"}})), "high");
    assert_eq!(effort(json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}})), "low");
    assert_eq!(effort(json!({"thinking": {"type": "disabled"}})), Value::Null);
}

#[test]
fn a_schema_for_the_answer_goes_over() {
    let schema = json!({"type": "object", "properties": {"level": {"type": "number"}}});
    let format =
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "river", "schema": schema}}});
    let there = to_messages(&chat(format)).expect("expressible");
    assert_eq!(there["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    let back = to_chat(&there).expect("expressible");
    assert_eq!(back["response_format"]["json_schema"]["schema"], schema);
    assert_eq!(
        to_messages(&chat(json!({"response_format": {"type": "text"}}))).expect("expressible").get("output_config"),
        None
    );
}

#[test]
fn marks_for_the_cache_are_kept_where_there_is_one() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let asked = json!({"model": "m", "messages": [
        {"role": "system", "content": [{"type": "text", "text": "long", "cache_control": mark}]},
        {"role": "user", "content": [{"type": "text", "text": "short", "cache_control": mark}]}]});
    let there = to_messages(&asked).expect("expressible");
    assert_eq!(
        (&there["system"][0]["cache_control"], &there["messages"][0]["content"][0]["cache_control"]),
        (&mark, &mark)
    );
    assert!(!to_chat(&there).expect("expressible").to_string().contains("cache_control"));
}

#[test]
fn thoughts_go_back_to_the_model_that_had_them_and_to_no_other() {
    let asked = json!({"model": "m", "messages": [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "!", "reasoning_content": "hm", "thinking_blocks": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "xyz"}]},
        {"role": "user", "content": "??"}]});
    let there = to_messages(&asked).expect("expressible");
    assert_eq!(
        there["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "!"}])
    );
    assert_eq!(to_chat(&there).expect("expressible")["messages"][1], json!({"role": "assistant", "content": "!"}));
}

#[test]
fn an_assistant_that_said_nothing_is_no_turn() {
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""},
        {"role": "user", "content": "b"}]});
    let said = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    assert_eq!(to_messages(&asked).expect("expressible")["messages"], said);
}

#[test]
fn escapes_and_numbers_stay_as_they_were_written() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"a\u00e9\/\n"}],"temperature":0.30,"top_p":1e-1}"#;
    let there = openai_client::request(body, &target()).expect("expressible");
    let text = String::from_utf8(there).expect("UTF-8");
    assert!(text.contains(r#""a\u00e9\/\n""#) && text.contains("0.30") && text.contains("1e-1"), "{text}");
}

/// The field that an error names, and whether the field is at fault itself or only inexpressible.
fn refused(result: Result<Value, TranslateError>) -> (String, bool) {
    let error = result.expect_err("must be refused");
    (error.field().to_owned(), matches!(error, TranslateError::Inexpressible { .. }))
}

#[test]
fn what_anthropic_cannot_say_is_refused_by_name() {
    let user = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (extra, field) in [
        (json!({"n": 2}), "n"),
        (json!({"seed": 0}), "seed"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logit_bias": {"50256": -100}}), "logit_bias"),
        (json!({"frequency_penalty": 0.5}), "frequency_penalty"),
        (json!({"presence_penalty": -1}), "presence_penalty"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"audio": {"voice": "alloy"}}), "audio"),
        (json!({"store": true}), "store"),
        (json!({"verbosity": "low"}), "verbosity"),
        (json!({"service_tier": "flex"}), "service_tier"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"response_format": {"type": "json_object"}}), "response_format.type"),
        (json!({"reasoning_effort": "high", "max_tokens": 1_000}), "reasoning_effort"),
        (
            json!({"reasoning_effort": "high", "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}]}),
            "tool_choice",
        ),
        (json!({"reasoning_effort": "low", "temperature": 0.5}), "temperature"),
        (json!({"reasoning_effort": "low", "top_p": 0.5}), "top_p"),
        (json!({"something_new": 1}), "something_new"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}), "tools[0].type"),
        (
            user(json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})),
            "messages[0].content[0].input_audio",
        ),
        (
            user(json!({"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}})),
            "messages[0].content[0].image_url.detail",
        ),
        (user(json!({"type": "text", "text": "x", "weight": 2})), "messages[0].content[0].weight"),
        (user(json!({"type": "file", "file": {"file_id": "file-1"}})), "messages[0].content[0].file.file_id"),
        (json!({"messages": [{"role": "user", "name": "Ann", "content": "x"}]}), "messages[0].name"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}),
            "messages[1].role",
        ),
        (json!({"messages": [{"role": "system", "content": "y"}]}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
            "messages[1].role",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ] {
        assert_eq!(refused(to_messages(&chat(extra.clone()))), (field.to_owned(), true), "{extra}");
    }
}

#[test]
fn what_openai_cannot_say_is_refused_by_name() {
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (extra, field) in [
        (json!({"top_k": 5}), "top_k"),
        (json!({"container": "c"}), "container"),
        (json!({"mcp_servers": [{"url": "x"}]}), "mcp_servers"),
        (json!({"speed": "fast"}), "speed"),
        (json!({"something_new": 1}), "something_new"),
        (json!({"stop_sequences": ["a", "b", "c", "d", "e"]}), "stop_sequences"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
            "messages[1].role",
        ),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools[0].type"),
        (json!({"output_config": {"task_budget": 1}}), "output_config.task_budget"),
        (user(json!({"type": "search_result", "source": {"type": "url", "url": "x"}})), "messages[0].content[0].type"),
        (
            user(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
            "messages[0].content[0].source.file_id",
        ),
        (
            user(json!({"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "image", "source": {"type": "url", "url": "https://x"}}]})),
            "messages[0].content[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "w", "input": {}}]}]}),
            "messages[0].content[0].type",
        ),
    ] {
        assert_eq!(refused(to_chat(&message(extra.clone()))), (field.to_owned(), true), "{extra}");
    }
}

#[test]
fn what_is_wrong_in_its_own_dialect_is_told_apart() {
    for (body, field) in [
        (json!({"model": "m"}), "messages"),
        (chat(json!({"messages": []})), "messages"),
        (chat(json!({"messages": [{"role": "judge", "content": "x"}]})), "messages[0].role"),
        (chat(json!({"messages": [{"role": "user", "content": ""}]})), "messages[0].content"),
        (chat(json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]})), "messages[0].content[0].text"),
        (chat(json!({"messages": [{"role": "tool", "content": "x"}]})), "messages[0].tool_call_id"),
        (chat(json!({"reasoning_effort": "huge"})), "reasoning_effort"),
        (
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]}),
            ),
            "messages[0].content[0].image_url.url",
        ),
    ] {
        assert_eq!(refused(to_messages(&body)), (field.to_owned(), false), "{body}");
    }
    assert_eq!(
        refused(to_chat(&json!({"messages": [{"role": "user", "content": "x"}]}))),
        ("max_tokens".to_owned(), false)
    );
    let null = chat(json!({"something_new": null, "seed": null, "max_tokens": null}));
    assert!(to_messages(&null).is_ok(), "null asks for nothing");
    let error = to_messages(&chat(json!({"max_tokens": "many"}))).expect_err("not a number").to_string();
    assert!(error.contains("`max_tokens`"), "{error}");
    for broken in ["", "[]", "{", r#"{"messages":"x"}"#, r#"{"messages":[{"role":1}]}"#] {
        let error = openai_client::request(broken.as_bytes(), &target()).expect_err("broken");
        assert!(matches!(error, TranslateError::Malformed(_)), "{broken}: {error}");
        assert!(anthropic_client::request(broken.as_bytes(), &target()).is_err());
    }
}

#[test]
fn a_route_may_drop_what_it_names() {
    let may_drop = ["seed", "something_new", "logprobs", "top_k"].map(str::to_owned);
    let lenient = Target { may_drop: &may_drop, ..target() };
    let body = chat(json!({"seed": 7, "something_new": 1, "logprobs": true}));
    let there = openai_client::request(body.to_string().as_bytes(), &lenient).expect("may be dropped");
    assert_eq!(
        parsed(&there).as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default(),
        ["model", "max_tokens", "messages"]
    );
    assert!(anthropic_client::request(message(json!({"top_k": 5})).to_string().as_bytes(), &lenient).is_ok());
    let body = chat(json!({"n": 2}));
    assert!(openai_client::request(body.to_string().as_bytes(), &lenient).is_err());
}
