//! What a messages request asks for. As strict as the real API: what it does not know, it refuses.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

use super::cache::Breakpoint;
use super::errors::invalid;
use crate::refusal::Refusal;
use crate::text::count_words;

/// What the top level may hold.
const KNOWN: [&str; 21] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "service_tier",
    "container",
    "context_management",
    "output_config",
    "cache_control",
    "diagnostics",
    "inference_geo",
    "speed",
];
const MOST_BREAKPOINTS: usize = 4;
const LEAST_THINKING: u64 = 1_024;

/// A messages request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: String,
    /// Nothing only where tokens are counted.
    pub(crate) max_tokens: Option<u64>,
    pub(crate) input: u64,
    pub(crate) breakpoints: Vec<Breakpoint>,
    pub(crate) stream: bool,
    pub(crate) thinking: bool,
    /// The tool that must be called.
    pub(crate) tool: Option<String>,
    pub(crate) stop_sequences: Vec<String>,
    pub(crate) simulate: Option<String>,
}

/// Counts what passes by, and keeps the hash of it for the cache.
struct Tally {
    tokens: u64,
    image_tokens: u64,
    hash: DefaultHasher,
    breakpoints: Vec<Breakpoint>,
}

impl Tally {
    fn text(&mut self, text: &str) {
        self.tokens += count_words(text);
        text.hash(&mut self.hash);
    }

    fn image(&mut self, source: &Value) {
        self.tokens += self.image_tokens;
        source.to_string().hash(&mut self.hash);
    }

    fn mark(&mut self, cache_control: Option<&Value>, path: &str) -> Result<(), Refusal> {
        let Some(control) = cache_control.filter(|control| !control.is_null()) else { return Ok(()) };
        if control["type"] != "ephemeral" {
            return Err(invalid(&format!("{path}.cache_control.type"), "Input should be 'ephemeral'"));
        }
        let long = match control.get("ttl").and_then(Value::as_str) {
            None | Some("5m") => false,
            Some("1h") => true,
            Some(_) => return Err(invalid(&format!("{path}.cache_control.ttl"), "Input should be '5m' or '1h'")),
        };
        if self.breakpoints.len() == MOST_BREAKPOINTS {
            let message = "A maximum of 4 blocks with cache_control may be provided.";
            return Err(Refusal::invalid(message));
        }
        self.breakpoints.push(Breakpoint { hash: self.hash.finish(), tokens: self.tokens, long });
        Ok(())
    }
}

impl Request {
    /// Reads the body of `/v1/messages`, or with `counting` that of `/v1/messages/count_tokens`.
    pub(crate) fn read(body: &[u8], image_tokens: u64, counting: bool) -> Result<Self, Refusal> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::invalid(format!("The request body is not valid JSON: {error}")))?;
        let Value::Object(fields) = body else {
            return Err(Refusal::invalid("Input should be a valid dictionary or object"));
        };
        if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(invalid(unknown, "Extra inputs are not permitted"));
        }
        let model = match fields.get("model").and_then(Value::as_str) {
            Some(model) if !model.is_empty() => model.to_owned(),
            _ => return Err(invalid("model", "Field required")),
        };
        let max_tokens = match fields.get("max_tokens") {
            None if counting => None,
            None => return Err(invalid("max_tokens", "Field required")),
            Some(value) => match value.as_u64() {
                Some(most @ 1..) => Some(most),
                _ => return Err(invalid("max_tokens", "Input should be greater than or equal to 1")),
            },
        };
        let (breakpoints, hash) = (Vec::new(), DefaultHasher::new());
        let mut tally = Tally { tokens: 0, image_tokens, hash, breakpoints };
        let names = tools(&fields, &mut tally)?;
        system(&fields, &mut tally)?;
        messages(&fields, &mut tally)?;
        sampling(&fields)?;
        let thinking = thinking(&fields, max_tokens)?;
        let tool = tool_choice(&fields, &names, thinking)?;
        let metadata = fields.get("metadata");
        Ok(Self {
            model,
            max_tokens,
            input: tally.tokens,
            breakpoints: tally.breakpoints,
            stream: fields.get("stream").and_then(Value::as_bool).unwrap_or(false),
            thinking,
            tool,
            stop_sequences: stop_sequences(&fields)?,
            simulate: metadata.and_then(|metadata| metadata["simulate"].as_str()).map(str::to_owned),
        })
    }
}

fn tools(fields: &Map<String, Value>, tally: &mut Tally) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for (index, tool) in fields.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("tools.{index}");
        let Some(name) = tool["name"].as_str() else { return Err(invalid(&format!("{path}.name"), "Field required")) };
        let custom = matches!(tool["type"].as_str(), None | Some("custom"));
        if custom && tool["input_schema"]["type"] != "object" {
            return Err(invalid(&format!("{path}.input_schema.type"), "Input should be 'object'"));
        }
        tally.text(name);
        tally.text(tool["description"].as_str().unwrap_or_default());
        tally.text(&tool["input_schema"].to_string());
        tally.mark(tool.get("cache_control"), &path)?;
        names.push(name.to_owned());
    }
    Ok(names)
}

fn system(fields: &Map<String, Value>, tally: &mut Tally) -> Result<(), Refusal> {
    match fields.get("system") {
        None => Ok(()),
        Some(Value::String(text)) => {
            tally.text(text);
            Ok(())
        }
        Some(Value::Array(blocks)) => {
            for (index, block) in blocks.iter().enumerate() {
                let path = format!("system.{index}");
                if block["type"] != "text" {
                    return Err(invalid(&format!("{path}.type"), "Input should be 'text'"));
                }
                text_block(block, &path, tally)?;
            }
            Ok(())
        }
        Some(_) => Err(invalid("system", "Input should be a valid string or list")),
    }
}

fn text_block(block: &Value, path: &str, tally: &mut Tally) -> Result<(), Refusal> {
    match block["text"].as_str() {
        Some("") => Err(Refusal::invalid(format!("{path}: text content blocks must be non-empty"))),
        Some(text) => {
            tally.text(text);
            tally.mark(block.get("cache_control"), path)
        }
        None => Err(invalid(&format!("{path}.text"), "Field required")),
    }
}

fn messages(fields: &Map<String, Value>, tally: &mut Tally) -> Result<(), Refusal> {
    let messages = match fields.get("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(invalid("messages", "Input should be a valid list")),
        None => return Err(invalid("messages", "Field required")),
    };
    if messages.is_empty() {
        return Err(invalid("messages", "at least one message is required"));
    }
    let mut called: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages.{index}");
        let role = message["role"].as_str().unwrap_or_default();
        if role != "user" && role != "assistant" {
            let message = format!("Unexpected role \"{role}\". Allowed roles are \"user\" or \"assistant\".");
            return Err(Refusal::invalid(format!("{path}.role: {message}")));
        }
        role.hash(&mut tally.hash);
        let answered = results(message);
        if let Some(missing) = called.iter().find(|id| !answered.contains(id)) {
            return Err(Refusal::invalid(format!(
                "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {missing}. \
                 Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                index.saturating_sub(1)
            )));
        }
        if let Some(stray) = answered.iter().find(|id| !called.contains(id)) {
            return Err(Refusal::invalid(format!(
                "{path}: unexpected `tool_use_id` found in `tool_result` blocks: {stray}. Each `tool_result` block must \
                 have a corresponding `tool_use` block in the previous message."
            )));
        }
        called = content(message, role, &path, tally)?;
    }
    Ok(())
}

fn results(message: &Value) -> Vec<&str> {
    let blocks = message["content"].as_array().into_iter().flatten();
    blocks.filter(|block| block["type"] == "tool_result").filter_map(|block| block["tool_use_id"].as_str()).collect()
}

/// Reads the content of a message; answers the ids of the tools that it calls.
fn content<'a>(message: &'a Value, role: &str, path: &str, tally: &mut Tally) -> Result<Vec<&'a str>, Refusal> {
    let blocks = match &message["content"] {
        Value::String(text) if text.is_empty() => {
            return Err(invalid(&format!("{path}.content"), "user messages must have non-empty content"));
        }
        Value::String(text) => {
            tally.text(text);
            return Ok(Vec::new());
        }
        Value::Array(blocks) if blocks.is_empty() => {
            return Err(invalid(&format!("{path}.content"), "messages must have non-empty content"));
        }
        Value::Array(blocks) => blocks,
        _ => return Err(invalid(&format!("{path}.content"), "Input should be a valid string or list")),
    };
    let mut called = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{path}.content.{index}");
        match (block["type"].as_str().unwrap_or_default(), role) {
            ("text", _) => text_block(block, &path, tally)?,
            ("image" | "document", "user") => {
                source(&block["source"], &path)?;
                tally.image(&block["source"]);
                tally.mark(block.get("cache_control"), &path)?;
            }
            ("tool_use", "assistant") => {
                let Some(id) = block["id"].as_str() else {
                    return Err(invalid(&format!("{path}.id"), "Field required"));
                };
                if !block["input"].is_object() {
                    return Err(invalid(&format!("{path}.input"), "Input should be a valid dictionary"));
                }
                tally.text(block["name"].as_str().unwrap_or_default());
                tally.text(&block["input"].to_string());
                tally.mark(block.get("cache_control"), &path)?;
                called.push(id);
            }
            ("tool_result", "user") => {
                match &block["content"] {
                    Value::String(text) => tally.text(text),
                    Value::Array(parts) => {
                        for part in parts {
                            match part["type"].as_str() {
                                Some("text") => tally.text(part["text"].as_str().unwrap_or_default()),
                                _ => tally.image(&part["source"]),
                            }
                        }
                    }
                    _ => {}
                }
                tally.mark(block.get("cache_control"), &path)?;
            }
            ("thinking" | "redacted_thinking", "assistant") => {}
            (kind, _) => {
                let what = format!("Input tag '{kind}' found using 'type' does not match any of the expected tags");
                return Err(invalid(&path, &what));
            }
        }
    }
    Ok(called)
}

fn source(source: &Value, path: &str) -> Result<(), Refusal> {
    let given = match source["type"].as_str() {
        Some("base64") => source["media_type"].is_string() && source["data"].is_string(),
        Some("url") => source["url"].as_str().is_some_and(|url| url.starts_with("http")),
        Some("file") => source["file_id"].is_string(),
        Some("text" | "content") => true,
        _ => false,
    };
    if given { Ok(()) } else { Err(invalid(&format!("{path}.source"), "Input should be a valid source")) }
}

fn sampling(fields: &Map<String, Value>) -> Result<(), Refusal> {
    for name in ["temperature", "top_p"] {
        let Some(value) = fields.get(name) else { continue };
        if !value.as_f64().is_some_and(|value| (0.0..=1.0).contains(&value)) {
            return Err(invalid(name, "range: 0..1"));
        }
    }
    Ok(())
}

fn thinking(fields: &Map<String, Value>, max_tokens: Option<u64>) -> Result<bool, Refusal> {
    let Some(thinking) = fields.get("thinking") else { return Ok(false) };
    match thinking["type"].as_str() {
        Some("disabled") => return Ok(false),
        Some("adaptive" | "between_tools") => {}
        Some("enabled") => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
            if budget < LEAST_THINKING {
                return Err(invalid("thinking.enabled.budget_tokens", "Input should be greater than or equal to 1024"));
            }
            if max_tokens.is_some_and(|most| budget >= most) {
                return Err(Refusal::invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
        }
        _ => return Err(invalid("thinking.type", "Input should be 'enabled', 'disabled' or 'adaptive'")),
    }
    if fields.get("temperature").and_then(Value::as_f64).is_some_and(|value| value < 1.0) {
        return Err(Refusal::invalid("`temperature` may only be set to 1 when thinking is enabled."));
    }
    Ok(true)
}

fn tool_choice(fields: &Map<String, Value>, names: &[String], thinking: bool) -> Result<Option<String>, Refusal> {
    let Some(choice) = fields.get("tool_choice") else { return Ok(None) };
    if names.is_empty() {
        return Err(Refusal::invalid("tool_choice may only be specified while providing tools."));
    }
    let forced = match choice["type"].as_str() {
        Some("auto" | "none") => return Ok(None),
        Some("any") => names.first().cloned(),
        Some("tool") => match choice["name"].as_str().filter(|name| names.iter().any(|known| known == name)) {
            Some(name) => Some(name.to_owned()),
            None => return Err(Refusal::invalid("tool_choice: Tool not found in provided tools")),
        },
        _ => return Err(invalid("tool_choice.type", "Input should be 'auto', 'any', 'tool' or 'none'")),
    };
    if thinking {
        return Err(Refusal::invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(forced)
}

fn stop_sequences(fields: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let mut sequences = Vec::new();
    for value in fields.get("stop_sequences").and_then(Value::as_array).into_iter().flatten() {
        match value.as_str() {
            Some(text) if !text.trim().is_empty() => sequences.push(text.to_owned()),
            _ => return Err(invalid("stop_sequences", "each stop sequence must contain non-whitespace")),
        }
    }
    Ok(sequences)
}
