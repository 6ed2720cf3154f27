//! Tools: what may be called, what must be, and what was.

use serde_json::value::RawValue;

use super::super::TranslateError;
use super::super::error::Under;
use super::super::json::{Object, Text, comma, read};
use super::super::wire::{ChatRequest, ChatTool, ChatToolChoice, ToolCall};

/// Writes the tools and the choice among them; answers whether one must be called.
pub(super) fn write(object: &mut Object<'_>, chat: &ChatRequest<'_>) -> Result<bool, TranslateError> {
    let Some(tools) = chat.tools.as_deref().filter(|tools| !tools.is_empty()) else { return Ok(false) };
    let out = object.field("tools");
    out.push('[');
    for (index, tool) in tools.iter().enumerate() {
        comma(out);
        declare(out, tool).under(format_args!("tools[{index}]"))?;
    }
    out.push(']');
    choose(object, chat)
}

fn declare(out: &mut String, tool: &ChatTool<'_>) -> Result<(), TranslateError> {
    if tool.kind.as_deref().is_some_and(|kind| kind != "function") {
        return Err(TranslateError::inexpressible("type", "can only be function"));
    }
    tool.refuse_unknown()?;
    let function = tool.function.as_ref().ok_or_else(|| TranslateError::invalid("function", "is required"))?;
    function.refuse_unknown().under("function")?;
    let name = function.name.ok_or_else(|| TranslateError::invalid("function.name", "is required"))?;
    let mut object = Object::open(out);
    object.raw("name", name.literal());
    if let Some(description) = function.description {
        object.raw("description", description.literal());
    }
    match function.parameters.filter(|parameters| parameters.get() != "{}") {
        Some(parameters) => object.raw("input_schema", parameters.get()),
        None => object.raw("input_schema", r#"{"type":"object","properties":{}}"#),
    };
    if function.strict == Some(true) {
        object.raw("strict", "true");
    }
    if let Some(cache_control) = tool.cache_control {
        object.raw("cache_control", cache_control.get());
    }
    object.close();
    Ok(())
}

fn choose(object: &mut Object<'_>, chat: &ChatRequest<'_>) -> Result<bool, TranslateError> {
    let serial = chat.parallel_tool_calls == Some(false);
    let (kind, name, forced) = match chat.tool_choice {
        None if serial => ("auto", None, false),
        None => return Ok(false),
        Some(choice) => chosen(choice).under("tool_choice")?,
    };
    let mut choice = Object::open(object.field("tool_choice"));
    choice.string("type", kind);
    if let Some(name) = name {
        choice.raw("name", name.literal());
    }
    if serial && kind != "none" {
        choice.raw("disable_parallel_tool_use", "true");
    }
    choice.close();
    Ok(forced)
}

/// Anthropic's word for a choice, the tool's name, and whether a call is forced.
fn chosen(choice: &RawValue) -> Result<(&'static str, Option<Text<'_>>, bool), TranslateError> {
    match choice.get() {
        "\"auto\"" => return Ok(("auto", None, false)),
        "\"none\"" => return Ok(("none", None, false)),
        "\"required\"" => return Ok(("any", None, true)),
        text if text.starts_with('"') => return Err(TranslateError::invalid("", "must be auto, none or required")),
        _ => {}
    }
    let choice: ChatToolChoice<'_> = read(choice)?;
    if choice.kind.as_deref() != Some("function") {
        return Err(TranslateError::inexpressible("type", "can only be function"));
    }
    choice.refuse_unknown()?;
    let name = choice.function.and_then(|function| function.name);
    let name = name.ok_or_else(|| TranslateError::invalid("function.name", "is required"))?;
    Ok(("tool", Some(name), true))
}

/// A call that the assistant made.
pub(super) fn call(out: &mut String, call: &ToolCall<'_>) -> Result<(), TranslateError> {
    if call.kind.as_deref().is_some_and(|kind| kind != "function") {
        return Err(TranslateError::inexpressible("type", "can only be function"));
    }
    call.refuse_unknown()?;
    let id = call.id.ok_or_else(|| TranslateError::invalid("id", "is required"))?;
    let function = call.function.as_ref().ok_or_else(|| TranslateError::invalid("function", "is required"))?;
    function.refuse_unknown().under("function")?;
    let name = function.name.ok_or_else(|| TranslateError::invalid("function.name", "is required"))?;
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"tool_use\"").raw("id", id.literal()).raw("name", name.literal());
    input(object.field("input"), function.arguments).under("function.arguments")?;
    object.close();
    Ok(())
}

/// Arguments are JSON in a string at OpenAI, and plain JSON at Anthropic.
fn input(out: &mut String, arguments: Option<Text<'_>>) -> Result<(), TranslateError> {
    let decoded = arguments.unwrap_or(Text::EMPTY).decoded()?;
    let text = decoded.trim();
    if text.is_empty() {
        out.push_str("{}");
        return Ok(());
    }
    let value: &RawValue = serde_json::from_str(text)?;
    if !value.get().starts_with('{') {
        return Err(TranslateError::inexpressible("", "must be a JSON object for Anthropic"));
    }
    out.push_str(value.get());
    Ok(())
}
