//! The whole answer.

use serde_json::value::RawValue;

use super::super::error::Under;
use super::super::json::{Object, Text, comma, quote, read};
use super::super::usage::{Dialect, Usage};
use super::super::wire::{ChatAnswer, ChatMessage, ChatPart, Choice, ToolCall};
use super::super::{Envelope, TranslateError};
use super::stop_reason;

/// Translates a chat completion into a message. Of several choices, the first is the message.
///
/// # Errors
/// The body is not a chat completion, or a call's arguments are not a JSON object.
pub fn answer(body: &[u8], envelope: &Envelope<'_>) -> Result<Vec<u8>, TranslateError> {
    let answer: ChatAnswer<'_> = serde_json::from_slice(body)?;
    let choice = answer.choices.as_deref().and_then(<[Choice<'_>]>::first);
    let Some((choice, message)) = choice.and_then(|choice| Some((choice, choice.message.as_ref()?))) else {
        return Err(TranslateError::invalid("choices", "are missing, so this is no chat completion"));
    };
    let mut out = String::with_capacity(body.len() + 512);
    let mut object = Object::open(&mut out);
    named(&mut object, envelope, answer.id, answer.model);
    let blocks = object.field("content");
    blocks.push('[');
    content(blocks, message).under("choices[0].message")?;
    blocks.push(']');
    let called = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
    let refused = message.refusal.is_some_and(|refusal| !refusal.is_empty());
    let stopped = choice.stop_reason.and_then(Text::of);
    let finish = if refused { Some("content_filter") } else { choice.finish_reason.as_deref() };
    let reason = stop_reason(finish, called, stopped.is_some());
    object.string("stop_reason", reason);
    let sequence = stopped.filter(|_| reason == "stop_sequence");
    object.raw("stop_sequence", sequence.map_or("null", Text::literal));
    let usage = answer.usage.and_then(|usage| Usage::of(Dialect::Chat, usage.get().as_bytes()));
    usage.unwrap_or_default().write_messages(object.field("usage"));
    object.close();
    Ok(out.into_bytes())
}

/// `id`, `type`, `role` and `model`.
pub(super) fn named(object: &mut Object<'_>, envelope: &Envelope<'_>, id: Option<Text<'_>>, model: Option<Text<'_>>) {
    match envelope.id {
        Some(id) => quote(object.field("id"), id),
        None => object.field("id").push_str(id.unwrap_or(Text::EMPTY).literal()),
    }
    object.raw("type", "\"message\"").raw("role", "\"assistant\"");
    match envelope.model {
        Some(name) => quote(object.field("model"), name),
        None => object.field("model").push_str(model.unwrap_or(Text::EMPTY).literal()),
    }
}

fn content(out: &mut String, message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    thoughts(out, message);
    if let Some(content) = message.content {
        match Text::of(content) {
            Some(text) => text_block(out, text),
            None => {
                let parts: Vec<ChatPart<'_>> = read(content).under("content")?;
                parts.iter().filter_map(|part| part.text.or(part.refusal)).for_each(|text| text_block(out, text));
            }
        }
    }
    if let Some(refusal) = message.refusal {
        text_block(out, refusal);
    }
    for (index, call) in message.tool_calls.iter().flatten().enumerate() {
        tool_use(out, call).under(format_args!("tool_calls[{index}].function.arguments"))?;
    }
    Ok(())
}

fn text_block(out: &mut String, text: Text<'_>) {
    if !text.is_empty() {
        comma(out);
        Object::open(out).raw("type", "\"text\"").raw("text", text.literal()).end();
    }
}

/// What was thought: with its signatures if they came along, else what there is of it.
fn thoughts(out: &mut String, message: &ChatMessage<'_>) {
    let blocks = message.thinking_blocks.as_deref().unwrap_or_default();
    for block in blocks {
        comma(out);
        let mut object = Object::open(out);
        match block.data {
            Some(data) => object.raw("type", "\"redacted_thinking\"").raw("data", data.literal()),
            None => object
                .raw("type", "\"thinking\"")
                .raw("thinking", block.thinking.unwrap_or(Text::EMPTY).literal())
                .raw("signature", block.signature.unwrap_or(Text::EMPTY).literal()),
        };
        object.close();
    }
    if blocks.is_empty()
        && let Some(thinking) = thought(message)
    {
        comma(out);
        let mut object = Object::open(out);
        object.raw("type", "\"thinking\"").raw("thinking", thinking.literal()).raw("signature", "\"\"");
        object.close();
    }
}

/// `reasoning_content`, or `reasoning` as some servers call it.
pub(super) fn thought<'a>(message: &ChatMessage<'a>) -> Option<Text<'a>> {
    message.reasoning_content.or(message.reasoning.and_then(Text::of)).filter(|text| !text.is_empty())
}

fn tool_use(out: &mut String, call: &ToolCall<'_>) -> Result<(), TranslateError> {
    let function = call.function.as_ref();
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"tool_use\"").raw("id", call.id.unwrap_or(Text::EMPTY).literal());
    object.raw("name", function.and_then(|function| function.name).unwrap_or(Text::EMPTY).literal());
    let arguments = function.and_then(|function| function.arguments).unwrap_or(Text::EMPTY).decoded()?;
    let input = match arguments.trim() {
        "" => "{}",
        text => {
            let value: &RawValue = serde_json::from_str(text)?;
            if !value.get().starts_with('{') {
                return Err(TranslateError::invalid("", "is not a JSON object"));
            }
            text
        }
    };
    object.raw("input", input);
    object.close();
    Ok(())
}
