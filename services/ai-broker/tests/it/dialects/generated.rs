//! Requests and answers of any kind that both dialects can say.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Texts with everything that JSON must escape.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-zA-Z \\n\"\\\\{}ä\u{1f30a}]{1,24}",
        1 => any::<String>().prop_filter("not empty", |text| !text.is_empty()),
    ]
}

fn object(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(depth, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    });
    prop::collection::vec(("[a-z\"]{1,6}", value), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

/// An assistant's turn and what came of its calls: texts, calls (name, arguments) and results (text, failed).
#[derive(Debug, Clone)]
struct Turn {
    user: Vec<Part>,
    said: Option<String>,
    calls: Vec<(usize, Value, String, bool)>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Inline(String),
    Linked(String),
    Pdf(String),
}

const TOOLS: [&str; 3] = ["level", "now", "open_gate"];

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => text().prop_map(Part::Text),
        1 => "[A-Za-z0-9+/]{4,40}".prop_map(Part::Inline),
        1 => "https://[a-z]{1,9}\\.example/[a-z0-9?=&\"]{0,9}".prop_map(Part::Linked),
        1 => "[A-Za-z0-9+/]{4,40}".prop_map(Part::Pdf),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let call = (0..TOOLS.len(), object(2), text(), any::<bool>());
    (prop::collection::vec(part(), 1..4), prop::option::of(text()), prop::collection::vec(call, 0..3)).prop_map(
        |(user, said, calls)| {
            let said = said.or_else(|| calls.is_empty().then(|| "Yes.".to_owned()));
            Turn { user, said, calls }
        },
    )
}

/// What both dialects say in their own words.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    system: Vec<String>,
    turns: Vec<Turn>,
    last: Vec<Part>,
    max_tokens: u64,
    temperature: Option<u32>,
    stops: Vec<String>,
    choice: Option<usize>,
    serial: bool,
    stream: bool,
    user: Option<String>,
    effort: Option<usize>,
    schema: Option<Value>,
}

const EFFORTS: [(&str, u64); 5] =
    [("low", 1_024), ("medium", 4_096), ("high", 16_384), ("xhigh", 32_768), ("max", 65_536)];

pub(super) fn conversation() -> impl Strategy<Value = Conversation> {
    let spoken =
        (prop::collection::vec(text(), 0..3), prop::collection::vec(turn(), 0..4), prop::collection::vec(part(), 1..3));
    let settings = (
        70_000..1_000_000_u64,
        prop::option::of(0..=100_u32),
        prop::collection::vec(text(), 0..4),
        prop::option::of(0..4_usize),
        any::<bool>(),
        any::<bool>(),
        prop::option::of(text()),
        prop::option::of(0..EFFORTS.len()),
        prop::option::of(object(2)),
    );
    (spoken, settings).prop_map(|((system, turns, last), settings)| {
        let (max_tokens, temperature, stops, choice, serial, stream, user, effort, schema) = settings;
        // A model that is made to think cannot be made to call.
        let choice = choice.filter(|choice| *choice < 2 || effort.is_none());
        let temperature = temperature.filter(|_| effort.is_none());
        Conversation {
            system,
            turns,
            last,
            max_tokens,
            temperature,
            stops,
            choice,
            serial,
            stream,
            user,
            effort,
            schema,
        }
    })
}

impl Conversation {
    /// As the body of a chat completion.
    pub(super) fn chat(&self) -> Value {
        let mut messages: Vec<Value> = Vec::new();
        match self.system.as_slice() {
            [] => {}
            [one] => messages.push(json!({"role": "system", "content": one})),
            several => {
                let parts: Vec<Value> = several.iter().map(|text| json!({"type": "text", "text": text})).collect();
                messages.push(json!({"role": "system", "content": parts}));
            }
        }
        let mut next = 0;
        for turn in &self.turns {
            messages.push(json!({"role": "user", "content": chat_parts(&turn.user)}));
            let ids: Vec<String> = turn.calls.iter().map(|_| id(&mut next)).collect();
            let mut said = json!({"role": "assistant", "content": turn.said});
            if !ids.is_empty() {
                let calls = turn.calls.iter().zip(&ids).map(|((tool, input, ..), id)| {
                    json!({"id": id, "type": "function",
                        "function": {"name": TOOLS[*tool], "arguments": input.to_string()}})
                });
                said["tool_calls"] = calls.collect();
            }
            messages.push(said);
            for ((.., result, failed), id) in turn.calls.iter().zip(&ids) {
                let content = if *failed {
                    json!([{"type": "text", "text": "The call failed:"}, {"type": "text", "text": result}])
                } else {
                    json!(result)
                };
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
        }
        messages.push(json!({"role": "user", "content": chat_parts(&self.last)}));
        let mut body = json!({"model": "the-model", "max_completion_tokens": self.max_tokens, "messages": messages});
        let tools = TOOLS.map(|name| {
            json!({"type": "function", "function": {"name": name, "description": name,
                "parameters": {"type": "object", "properties": {}}, "strict": true}})
        });
        body["tools"] = json!(tools);
        match self.choice {
            Some(0) => body["tool_choice"] = "auto".into(),
            Some(1) => body["tool_choice"] = "none".into(),
            Some(2) => body["tool_choice"] = "required".into(),
            Some(_) => body["tool_choice"] = json!({"type": "function", "function": {"name": "now"}}),
            None => {}
        }
        if self.serial && self.choice.is_some_and(|choice| choice != 1) {
            body["parallel_tool_calls"] = false.into();
        }
        self.shared(&mut body);
        if !self.stops.is_empty() {
            body["stop"] = json!(self.stops);
        }
        if let Some(user) = &self.user {
            body["user"] = user.as_str().into();
        }
        if let Some(effort) = self.effort {
            body["reasoning_effort"] = EFFORTS[effort].0.into();
        }
        if let Some(schema) = &self.schema {
            body["response_format"] = json!({"type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": schema}});
        }
        if self.stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    /// As the body of a message.
    pub(super) fn message(&self) -> Value {
        let mut messages: Vec<Value> = Vec::new();
        let mut next = 0;
        let mut pending: Vec<Value> = Vec::new();
        for turn in &self.turns {
            let mut content = std::mem::take(&mut pending);
            content.extend(message_parts(&turn.user));
            messages.push(json!({"role": "user", "content": content}));
            let mut said: Vec<Value> = turn.said.iter().map(|text| json!({"type": "text", "text": text})).collect();
            for (tool, input, result, failed) in &turn.calls {
                let id = id(&mut next);
                said.push(json!({"type": "tool_use", "id": id, "name": TOOLS[*tool], "input": input}));
                let mut answered = json!({"type": "tool_result", "tool_use_id": id, "content": result});
                if *failed {
                    answered["content"] = json!([{"type": "text", "text": result}]);
                    answered["is_error"] = true.into();
                }
                pending.push(answered);
            }
            messages.push(json!({"role": "assistant", "content": said}));
        }
        pending.extend(message_parts(&self.last));
        messages.push(json!({"role": "user", "content": pending}));
        let mut body = json!({"model": "the-model", "max_tokens": self.max_tokens});
        match self.system.as_slice() {
            [] => {}
            [one] => body["system"] = one.as_str().into(),
            several => {
                body["system"] = several.iter().map(|text| json!({"type": "text", "text": text})).collect();
            }
        }
        body["messages"] = json!(messages);
        let tools = TOOLS.map(|name| {
            json!({"name": name, "description": name, "input_schema": {"type": "object", "properties": {}}, "strict": true})
        });
        body["tools"] = json!(tools);
        if let Some(choice) = self.choice {
            let mut choice = match choice {
                0 => json!({"type": "auto"}),
                1 => json!({"type": "none"}),
                2 => json!({"type": "any"}),
                _ => json!({"type": "tool", "name": "now"}),
            };
            if self.serial && choice["type"] != "none" {
                choice["disable_parallel_tool_use"] = true.into();
            }
            body["tool_choice"] = choice;
        }
        self.shared(&mut body);
        if !self.stops.is_empty() {
            body["stop_sequences"] = json!(self.stops);
        }
        if let Some(user) = &self.user {
            body["metadata"] = json!({"user_id": user});
        }
        if let Some(effort) = self.effort {
            body["thinking"] = json!({"type": "enabled", "budget_tokens": EFFORTS[effort].1});
        }
        if let Some(schema) = &self.schema {
            body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
        }
        body
    }

    fn shared(&self, body: &mut Value) {
        if let Some(temperature) = self.temperature {
            body["temperature"] = json!(f64::from(temperature) / 100.0);
        }
        if self.stream {
            body["stream"] = true.into();
        }
    }
}

fn id(next: &mut u32) -> String {
    *next += 1;
    format!("call_{next}")
}

/// A lone text is a string.
fn chat_parts(parts: &[Part]) -> Value {
    if let [Part::Text(text)] = parts {
        return json!(text);
    }
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Inline(data) => {
            json!({"type": "image_url", "image_url": {"url": format!("data:image/jpeg;base64,{data}")}})
        }
        Part::Linked(url) => json!({"type": "image_url", "image_url": {"url": url}}),
        Part::Pdf(data) => json!({"type": "file", "file": {"filename": "a.pdf",
            "file_data": format!("data:application/pdf;base64,{data}")}}),
    };
    parts.iter().map(part).collect()
}

fn message_parts(parts: &[Part]) -> Vec<Value> {
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Inline(data) => {
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": data}})
        }
        Part::Linked(url) => json!({"type": "image", "source": {"type": "url", "url": url}}),
        Part::Pdf(data) => json!({"type": "document", "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": data}}),
    };
    parts.iter().map(part).collect()
}

/// What a model answers, as both dialects say it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    thoughts: Vec<(String, bool)>,
    texts: Vec<String>,
    calls: Vec<(usize, Value)>,
    end: usize,
    sequence: String,
    usage: [u32; 5],
}

pub(super) fn answer() -> impl Strategy<Value = Answer> {
    (
        prop::collection::vec((text(), prop::bool::weighted(0.2)), 0..3),
        prop::collection::vec(text(), 0..3),
        prop::collection::vec((0..TOOLS.len(), object(2)), 0..3),
        0..4_usize,
        text(),
        any::<[u16; 5]>().prop_map(|numbers| numbers.map(u32::from)),
    )
        .prop_map(|(thoughts, texts, calls, end, sequence, usage)| Answer {
            thoughts,
            texts,
            calls,
            end,
            sequence,
            usage,
        })
}

impl Answer {
    /// As a message.
    pub(super) fn message(&self) -> Value {
        let mut content: Vec<Value> = Vec::new();
        for (thought, redacted) in &self.thoughts {
            content.push(if *redacted {
                json!({"type": "redacted_thinking", "data": thought})
            } else {
                json!({"type": "thinking", "thinking": thought, "signature": "c2lnbmF0dXJl"})
            });
        }
        content.extend(self.texts.iter().map(|text| json!({"type": "text", "text": text})));
        for (number, (tool, input)) in self.calls.iter().enumerate() {
            content.push(
                json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": TOOLS[*tool], "input": input}),
            );
        }
        let reason = match self.end {
            0 => "max_tokens",
            1 => "refusal",
            _ if !self.calls.is_empty() => "tool_use",
            2 => "stop_sequence",
            _ => "end_turn",
        };
        let [input, read, written, output, thought] = self.usage;
        let mut usage = json!({"input_tokens": input, "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read, "output_tokens": output + thought});
        if thought > 0 {
            usage["output_tokens_details"] = json!({"thinking_tokens": thought});
        }
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
            "stop_reason": reason,
            "stop_sequence": if reason == "stop_sequence" { json!(self.sequence) } else { Value::Null },
            "usage": usage})
    }

    /// As a chat completion.
    pub(super) fn completion(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": null, "refusal": null});
        if !self.texts.is_empty() {
            message["content"] = self.texts.concat().into();
        }
        let thought: String = self.thoughts.iter().map(|(thought, _)| thought.as_str()).collect();
        if !thought.is_empty() {
            message["reasoning_content"] = thought.into();
        }
        if !self.calls.is_empty() {
            let calls = self.calls.iter().enumerate().map(|(number, (tool, input))| {
                json!({"id": format!("call_{number}"), "type": "function",
                    "function": {"name": TOOLS[*tool], "arguments": input.to_string()}})
            });
            message["tool_calls"] = calls.collect();
        }
        let reason = match self.end {
            0 => "length",
            1 => "content_filter",
            _ if !self.calls.is_empty() => "tool_calls",
            _ => "stop",
        };
        let mut choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": reason});
        if self.end == 2 && self.calls.is_empty() {
            choice["stop_reason"] = self.sequence.as_str().into();
        }
        let [input, read, _, output, thought] = self.usage;
        json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt", "choices": [choice],
            "usage": {"prompt_tokens": input + read, "completion_tokens": output + thought,
                "total_tokens": input + read + output + thought,
                "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0}}})
    }
}

/// Cuts a text into pieces of these sizes, in turn.
pub(super) fn pieces(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut letters = text.chars();
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        let piece: String = letters.by_ref().take((*size).max(1)).collect();
        if piece.is_empty() {
            return pieces;
        }
        pieces.push(piece);
    }
    pieces
}
