//! `POST /v1/responses`.

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat::now;
use super::prompt::{Metadata, read_json, required_model, within};
use super::{errors, response_events};
use crate::headers::EVENT_STREAM;
use crate::ids::Id;
use crate::keys::Demand;
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call, Output};
use crate::text::{append_words, count_words};

const MOST_OUTPUT: i64 = 10_000_000;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Value>,
    instructions: Option<Value>,
    max_output_tokens: Option<i64>,
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    reasoning: Option<Value>,
    service_tier: Option<String>,
    previous_response_id: Option<String>,
    metadata: Option<Metadata>,
}

/// What an answer says.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) model: &'a str,
    pub(crate) instructions: &'a Value,
    pub(crate) created: u64,
    pub(crate) most: Option<u64>,
    /// All output.
    pub(crate) tokens: u64,
    /// Of those, what is thought and not shown; nothing if the model does not reason.
    pub(crate) reasoned: Option<u64>,
    pub(crate) tool: Option<&'a str>,
    pub(crate) service_tier: &'a str,
    pub(crate) usage: Option<Usage>,
}

/// What an answer says it used of its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) cached: u64,
}

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let body: Body = read_json(&body)?;
    let model = required_model(body.model.map(Into::into))?;
    let input = body.input.ok_or_else(|| errors::missing("input"))?;
    if let Some(id) = body.previous_response_id {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(Refusal::invalid(message).param("previous_response_id").code("previous_response_not_found").into());
    }
    let most = within("max_output_tokens", body.max_output_tokens, MOST_OUTPUT)?;
    let tool = tool(body.tools.as_deref().unwrap_or_default(), body.tool_choice.as_ref())?;
    if !call.state.model_exists(&model) {
        return Err(errors::unknown_model(&model).into());
    }
    let instructions = body.instructions.unwrap_or(Value::Null);
    let input = weigh(&input, call.state.options.image_tokens) + weigh(&instructions, 0);
    let usual = most.unwrap_or(call.state.options.default_output_tokens);
    let streamed = body.stream.unwrap_or(false);
    let simulate = body.metadata.as_ref().and_then(|metadata| metadata.simulate.as_deref());
    let asking = Asking { streamed, simulate, demand: Demand::tokens(input, usual), ..Asking::of("responses", &model) };
    let tokens = |admitted: &Admitted| admitted.directive.output_tokens.unwrap_or(usual);
    let spoilt = |admitted: &Admitted| admitted.entry.charge(input, tokens(admitted));
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(spoilt))?;
    let tokens = tokens(&admitted);
    let cached = admitted.directive.cached_tokens.unwrap_or(0).min(input);
    let reasons = body
        .reasoning
        .as_ref()
        .is_some_and(|reasoning| reasoning["effort"].as_str().is_some_and(|effort| effort != "none"));
    let answer = Answer {
        model: &model,
        instructions: &instructions,
        created: now(),
        most,
        tokens,
        reasoned: reasons.then_some(tokens / 2),
        tool: tool.as_deref(),
        service_tier: admitted.directive.served(body.service_tier.as_deref()),
        usage: Some(Usage { input, cached }).filter(|_| !admitted.directive.without_usage),
    };
    if streamed {
        // What is reasoned is never sent, so it counts as soon as the stream begins.
        admitted.entry.charge(input, answer.reasoned.unwrap_or(0));
        let script = response_events::script(&answer, &call.id);
        return Ok(call.stream(admitted, EVENT_STREAM, script));
    }
    admitted.entry.charge(input, tokens);
    let body = answer.json(&call.id).to_string();
    Ok(call.respond(admitted, Output::json(body)))
}

/// The tokens of an input: a text, or items with texts and images anywhere inside.
fn weigh(value: &Value, image_tokens: u64) -> u64 {
    match value {
        Value::String(text) => count_words(text),
        Value::Array(items) => items.iter().map(|item| weigh(item, image_tokens)).sum(),
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "input_image") => image_tokens,
        Value::Object(fields) => ["content", "text", "output", "arguments", "summary"]
            .iter()
            .filter_map(|name| fields.get(*name))
            .map(|value| weigh(value, image_tokens))
            .sum(),
        _ => 0,
    }
}

/// A tool is called when the request demands it.
fn tool(tools: &[Value], choice: Option<&Value>) -> Result<Option<String>, Refusal> {
    let mut names = tools.iter().filter(|tool| tool["type"] == "function").filter_map(|tool| tool["name"].as_str());
    let wrong = |message: &str| Err(Refusal::invalid(message).param("tool_choice"));
    match choice {
        Some(Value::String(mode)) if mode == "required" => match names.next() {
            Some(name) => Ok(Some(name.to_owned())),
            None => wrong("Tool choice 'required' must be specified with 'tools' parameter."),
        },
        Some(Value::Object(choice)) if choice.get("type").is_some_and(|kind| kind == "function") => {
            match names.find(|name| choice.get("name").is_some_and(|wanted| wanted == name)) {
                Some(name) => Ok(Some(name.to_owned())),
                None => wrong("Tool choice not found in 'tools' parameter."),
            }
        }
        _ => Ok(None),
    }
}

impl Answer<'_> {
    pub(crate) fn said(&self) -> u64 {
        self.tokens - self.reasoned.unwrap_or(0)
    }

    fn cut(&self) -> bool {
        self.tool.is_none() && self.most.is_some_and(|most| self.tokens >= most)
    }

    /// How the stream ends, and what the whole answer says of it.
    pub(crate) fn status(&self) -> &'static str {
        if self.cut() { "incomplete" } else { "completed" }
    }

    pub(crate) fn text(&self) -> String {
        let mut out = Vec::new();
        append_words(&mut out, self.said());
        String::from_utf8(out).unwrap_or_default()
    }

    pub(crate) fn arguments(&self) -> String {
        if self.said() == 0 { "{}".to_owned() } else { json!({"text": self.text()}).to_string() }
    }

    pub(crate) fn json(&self, id: &Id) -> Value {
        let mut output = Vec::new();
        if self.reasoned.is_some() {
            output.push(reasoning(id));
        }
        output.push(self.item(id, self.status()));
        let mut response = self.envelope(id, self.status());
        response["output"] = Value::Array(output);
        if self.cut() {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        if let Some(Usage { input, cached }) = self.usage {
            response["usage"] = json!({
                "input_tokens": input,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": self.tokens,
                "output_tokens_details": {"reasoning_tokens": self.reasoned.unwrap_or(0)},
                "total_tokens": input + self.tokens,
            });
        }
        response
    }

    /// The message or the call, as it is when all is said.
    pub(crate) fn item(&self, id: &Id, status: &str) -> Value {
        match self.tool {
            Some(name) => json!({
                "id": item_id(id, true), "type": "function_call", "status": status,
                "call_id": format!("call_{}", id.as_str()), "name": name, "arguments": self.arguments(),
            }),
            None => json!({
                "id": item_id(id, false), "type": "message", "status": status, "role": "assistant",
                "content": [{"type": "output_text", "text": self.text(), "annotations": [], "logprobs": []}],
            }),
        }
    }

    /// The response before anything is said.
    pub(crate) fn envelope(&self, id: &Id, status: &str) -> Value {
        json!({
            "id": format!("resp_{}", id.as_str()),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.instructions,
            "max_output_tokens": self.most,
            "model": self.model,
            "output": [],
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "service_tier": self.service_tier,
            "store": true,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": null,
            "user": null,
            "metadata": {},
        })
    }
}

pub(crate) fn reasoning(id: &Id) -> Value {
    json!({"id": format!("rs_{}", id.as_str()), "type": "reasoning", "summary": []})
}

pub(crate) fn item_id(id: &Id, call: bool) -> String {
    format!("{}_{}", if call { "fc" } else { "msg" }, id.as_str())
}
