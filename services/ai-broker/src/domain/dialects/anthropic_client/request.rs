//! The request.

use super::super::effort;
use super::super::error::Under;
use super::super::json::{Object, Raw, Text, comma, is_nothing};
use super::super::wire::{MessagesRequest, MessagesTool, OutputFormat};
use super::super::{Target, TranslateError};
use super::content;

/// What OpenAI has no word for.
type Impossible<'a> = (&'static str, Option<Raw<'a>>);

/// The most stop sequences that OpenAI takes.
const MOST_STOPS: usize = 4;

/// Translates the body of a message into that of a chat completion. A stream is always asked to say what it used.
///
/// # Errors
/// The body is not one, or asks for what OpenAI's API cannot say; the error names the field.
pub fn request(body: &[u8], target: &Target<'_>) -> Result<Vec<u8>, TranslateError> {
    let request: MessagesRequest<'_> = serde_json::from_slice(body)?;
    refuse_inexpressible(&request, target)?;
    let messages = request.messages.as_deref().unwrap_or_default();
    if messages.is_empty() {
        return Err(TranslateError::invalid("messages", "must not be empty"));
    }
    let max_tokens = request.max_tokens.ok_or_else(|| TranslateError::invalid("max_tokens", "is required"))?;
    let mut out = String::with_capacity(body.len() + body.len() / 8 + 256);
    let mut object = Object::open(&mut out);
    object.string("model", target.model).number(target.max_tokens_field, max_tokens);
    let array = object.field("messages");
    array.push('[');
    content::system(array, request.system).under("system")?;
    for (index, message) in messages.iter().enumerate() {
        content::message(array, message).under(format_args!("messages[{index}]"))?;
    }
    array.push(']');
    let last = messages.len() - 1;
    if messages[last].role.as_deref() == Some("assistant") {
        return Err(TranslateError::inexpressible(
            format!("messages[{last}].role"),
            "cannot be assistant at the end: a chat completion does not go on with an answer that was begun",
        ));
    }
    tools(&mut object, &request)?;
    sampling(&mut object, &request)?;
    thinking(&mut object, &request)?;
    if let Some(user) = request.metadata.as_ref().and_then(|metadata| metadata.user_id) {
        object.raw("user", user.literal());
    }
    match request.service_tier.as_deref() {
        None | Some("auto") => {}
        Some("standard_only") => drop(object.string("service_tier", "default")),
        Some(_) => return Err(TranslateError::invalid("service_tier", "must be auto or standard_only")),
    }
    if request.stream == Some(true) {
        object.raw("stream", "true").raw("stream_options", r#"{"include_usage":true}"#);
    }
    object.close();
    Ok(out.into_bytes())
}

fn refuse_inexpressible(request: &MessagesRequest<'_>, target: &Target<'_>) -> Result<(), TranslateError> {
    let may_drop = |field: &str| target.may_drop.iter().any(|name| name == field);
    if let Some(unknown) = request.unknown.as_ref().filter(|name| !may_drop(name)) {
        return Err(TranslateError::unknown(unknown));
    }
    let impossible: [Impossible<'_>; 5] = [
        ("top_k", request.top_k),
        ("container", request.container),
        ("context_management", request.context_management),
        ("mcp_servers", request.mcp_servers),
        ("inference_geo", request.inference_geo),
    ];
    for (field, value) in impossible {
        if value.is_some_and(|raw| !is_nothing(raw)) && !may_drop(field) {
            return Err(TranslateError::inexpressible(field, "has no counterpart in OpenAI's chat completions"));
        }
    }
    if request.speed.as_deref().is_some_and(|speed| speed != "standard") && !may_drop("speed") {
        return Err(TranslateError::inexpressible("speed", "can only be standard"));
    }
    match &request.metadata {
        Some(metadata) => metadata.refuse_unknown().under("metadata"),
        None => Ok(()),
    }
}

fn tools(object: &mut Object<'_>, request: &MessagesRequest<'_>) -> Result<(), TranslateError> {
    let Some(tools) = request.tools.as_deref().filter(|tools| !tools.is_empty()) else { return Ok(()) };
    let out = object.field("tools");
    out.push('[');
    for (index, tool) in tools.iter().enumerate() {
        comma(out);
        declare(out, tool).under(format_args!("tools[{index}]"))?;
    }
    out.push(']');
    let Some(choice) = &request.tool_choice else { return Ok(()) };
    choice.refuse_unknown().under("tool_choice")?;
    match (choice.kind.as_deref(), choice.name) {
        (Some("auto"), _) => drop(object.string("tool_choice", "auto")),
        (Some("none"), _) => drop(object.string("tool_choice", "none")),
        (Some("any"), _) => drop(object.string("tool_choice", "required")),
        (Some("tool"), Some(name)) => {
            let mut choice = Object::open(object.field("tool_choice"));
            choice.raw("type", "\"function\"");
            Object::open(choice.field("function")).raw("name", name.literal()).end();
            choice.close();
        }
        (Some("tool"), None) => return Err(TranslateError::invalid("tool_choice.name", "is required")),
        _ => return Err(TranslateError::invalid("tool_choice.type", "must be auto, any, tool or none")),
    }
    if choice.disable_parallel_tool_use == Some(true) {
        object.raw("parallel_tool_calls", "false");
    }
    Ok(())
}

fn declare(out: &mut String, tool: &MessagesTool<'_>) -> Result<(), TranslateError> {
    if tool.kind.as_deref().is_some_and(|kind| kind != "custom") {
        return Err(TranslateError::inexpressible("type", "can only be custom: the tool is Anthropic's own"));
    }
    tool.refuse_unknown()?;
    let name = tool.name.ok_or_else(|| TranslateError::invalid("name", "is required"))?;
    let schema = tool.input_schema.ok_or_else(|| TranslateError::invalid("input_schema", "is required"))?;
    let mut object = Object::open(out);
    object.raw("type", "\"function\"");
    let mut function = Object::open(object.field("function"));
    function.raw("name", name.literal());
    if let Some(description) = tool.description {
        function.raw("description", description.literal());
    }
    function.raw("parameters", schema.get());
    if tool.strict == Some(true) {
        function.raw("strict", "true");
    }
    function.close();
    object.close();
    Ok(())
}

fn sampling(object: &mut Object<'_>, request: &MessagesRequest<'_>) -> Result<(), TranslateError> {
    for (name, value) in [("temperature", request.temperature), ("top_p", request.top_p)] {
        if let Some(value) = value {
            object.raw(name, value.get());
        }
    }
    let stops: &[Text<'_>] = request.stop_sequences.as_deref().unwrap_or_default();
    if stops.len() > MOST_STOPS {
        return Err(TranslateError::inexpressible(
            "stop_sequences",
            format!("can have at most {MOST_STOPS} entries at OpenAI"),
        ));
    }
    if !stops.is_empty() {
        let out = object.field("stop");
        out.push('[');
        for stop in stops {
            comma(out);
            out.push_str(stop.literal());
        }
        out.push(']');
    }
    Ok(())
}

fn thinking(object: &mut Object<'_>, request: &MessagesRequest<'_>) -> Result<(), TranslateError> {
    let config = request.output_config.as_ref();
    if let Some(config) = config {
        config.refuse_unknown().under("output_config")?;
    }
    let asked = config.and_then(|config| config.effort.as_deref());
    let asked = asked
        .map(|effort| {
            effort::word(effort).ok_or_else(|| TranslateError::invalid("output_config.effort", "is not known"))
        })
        .transpose()?;
    let effort = match &request.thinking {
        None => asked,
        Some(thinking) => {
            thinking.refuse_unknown().under("thinking")?;
            match (thinking.kind.as_deref(), thinking.budget_tokens) {
                (Some("disabled"), _) => asked,
                (Some("enabled"), Some(budget)) => asked.or(Some(effort::of_budget(budget))),
                (Some("enabled"), None) => {
                    return Err(TranslateError::invalid("thinking.budget_tokens", "is required"));
                }
                // What Anthropic's models do unless they are told how hard to try.
                (Some("adaptive" | "between_tools"), _) => asked.or(Some("high")),
                _ => return Err(TranslateError::invalid("thinking.type", "must be enabled, adaptive or disabled")),
            }
        }
    };
    if let Some(effort) = effort {
        object.string("reasoning_effort", effort);
    }
    match config.and_then(|config| config.format.as_ref()) {
        Some(format) => response_format(object, format).under("output_config.format"),
        None => Ok(()),
    }
}

fn response_format(object: &mut Object<'_>, format: &OutputFormat<'_>) -> Result<(), TranslateError> {
    format.refuse_unknown()?;
    if format.kind.as_deref() != Some("json_schema") {
        return Err(TranslateError::inexpressible("type", "can only be json_schema"));
    }
    let schema = format.schema.ok_or_else(|| TranslateError::invalid("schema", "is required"))?;
    let mut outer = Object::open(object.field("response_format"));
    outer.raw("type", "\"json_schema\"");
    let mut inner = Object::open(outer.field("json_schema"));
    // OpenAI asks for a name; Anthropic has none, and always holds to the schema.
    inner.string("name", "answer").raw("strict", "true").raw("schema", schema.get()).end();
    outer.close();
    Ok(())
}
