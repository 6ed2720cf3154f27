//! The whole answer.

use super::super::json::{Object, Text, comma, quote};
use super::super::usage::{Dialect, Usage};
use super::super::wire::{Block, Message};
use super::super::{Envelope, TranslateError};
use super::finish_reason;

/// Translates a message into a chat completion.
///
/// # Errors
/// The body is not a message.
pub fn answer(body: &[u8], envelope: &Envelope<'_>) -> Result<Vec<u8>, TranslateError> {
    let message: Message<'_> = serde_json::from_slice(body)?;
    let Some(blocks) = message.content.as_deref() else {
        return Err(TranslateError::invalid("content", "is missing, so this is no message"));
    };
    let mut out = String::with_capacity(body.len() + 512);
    let mut object = Object::open(&mut out);
    named(&mut object, envelope, message.id, message.model, "chat.completion");
    let choices = object.field("choices");
    choices.push('[');
    let mut choice = Object::open(choices);
    choice.number("index", 0);
    said(choice.field("message"), blocks);
    choice.raw("logprobs", "null");
    let reason = finish_reason(message.stop_reason.as_deref().unwrap_or_default());
    choice.string("finish_reason", reason);
    if let Some(sequence) = message.stop_sequence {
        choice.raw("stop_reason", sequence.literal());
    }
    choice.close();
    object.append("]");
    if let Some(usage) = message.usage.and_then(|usage| Usage::of(Dialect::Messages, usage.get().as_bytes())) {
        usage.write_chat(object.field("usage"));
    }
    object.close();
    Ok(out.into_bytes())
}

/// `id`, `object`, `created` and `model`.
pub(super) fn named(
    object: &mut Object<'_>,
    envelope: &Envelope<'_>,
    id: Option<Text<'_>>,
    model: Option<Text<'_>>,
    kind: &str,
) {
    match envelope.id {
        Some(id) => quote(object.field("id"), id),
        None => object.field("id").push_str(id.unwrap_or(Text::EMPTY).literal()),
    }
    object.string("object", kind).number("created", envelope.created);
    match envelope.model {
        Some(name) => quote(object.field("model"), name),
        None => object.field("model").push_str(model.unwrap_or(Text::EMPTY).literal()),
    }
}

fn said(out: &mut String, blocks: &[Block<'_>]) {
    let mut message = Object::open(out);
    message.raw("role", "\"assistant\"");
    joined(&mut message, "content", blocks, "text", |block| block.text);
    message.raw("refusal", "null");
    if blocks.iter().any(|block| is(block, "thinking")) {
        joined(&mut message, "reasoning_content", blocks, "thinking", |block| block.thinking);
    }
    let thought = |block: &&Block<'_>| is(block, "thinking") || is(block, "redacted_thinking");
    if blocks.iter().any(|block| thought(&block)) {
        let out = message.field("thinking_blocks");
        out.push('[');
        for block in blocks.iter().filter(thought) {
            comma(out);
            thinking(out, block);
        }
        out.push(']');
    }
    if blocks.iter().any(|block| is(block, "tool_use")) {
        let out = message.field("tool_calls");
        out.push('[');
        for block in blocks.iter().filter(|block| is(block, "tool_use")) {
            comma(out);
            call(out, block);
        }
        out.push(']');
    }
    message.close();
}

fn is(block: &Block<'_>, kind: &str) -> bool {
    block.kind.as_deref() == Some(kind)
}

/// The texts of all blocks of a kind, one after the other; `null` if there is no such block.
fn joined<'a>(
    message: &mut Object<'_>,
    name: &str,
    blocks: &[Block<'a>],
    kind: &str,
    text: impl Fn(&Block<'a>) -> Option<Text<'a>>,
) {
    let mut texts = blocks.iter().filter(|block| is(block, kind)).filter_map(text).peekable();
    if texts.peek().is_none() {
        message.raw(name, "null");
        return;
    }
    let out = message.field(name);
    out.push('"');
    texts.for_each(|text| out.push_str(text.inner()));
    out.push('"');
}

fn thinking(out: &mut String, block: &Block<'_>) {
    let mut object = Object::open(out);
    if let Some(data) = block.data {
        object.raw("type", "\"redacted_thinking\"").raw("data", data.literal());
    } else {
        object.raw("type", "\"thinking\"").raw("thinking", block.thinking.unwrap_or(Text::EMPTY).literal());
        object.raw("signature", block.signature.unwrap_or(Text::EMPTY).literal());
    }
    object.close();
}

fn call(out: &mut String, block: &Block<'_>) {
    let mut object = Object::open(out);
    object.raw("id", block.id.unwrap_or(Text::EMPTY).literal()).raw("type", "\"function\"");
    let mut function = Object::open(object.field("function"));
    function.raw("name", block.name.unwrap_or(Text::EMPTY).literal());
    function.string("arguments", block.input.map_or("{}", |input| input.get()));
    function.close();
    object.close();
}
