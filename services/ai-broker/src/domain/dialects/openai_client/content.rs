//! Messages: what is said by whom.

use super::super::TranslateError;
use super::super::error::Under;
use super::super::json::{Object, Raw, Text, comma, quote, read};
use super::super::wire::{ChatFile, ChatMessage, ChatPart, ImageUrl};
use super::super::{FAILED, data_url};
use super::tools;

/// Writes the instructions that stand before everything else; answers where the conversation begins.
pub(super) fn system(object: &mut Object<'_>, messages: &[ChatMessage<'_>]) -> Result<usize, TranslateError> {
    let first = messages.iter().position(|message| !instructs(message)).unwrap_or(messages.len());
    if first == 0 {
        return Ok(0);
    }
    // One plain text stays one.
    if let [only] = &messages[..first]
        && let Some(text) = only.content.and_then(Text::of)
    {
        alone(only).under("messages[0]")?;
        if !text.is_empty() {
            object.raw("system", text.literal());
        }
        return Ok(first);
    }
    let out = object.field("system");
    out.push('[');
    for (index, message) in messages[..first].iter().enumerate() {
        instruction(out, message).under(format_args!("messages[{index}]"))?;
    }
    out.push(']');
    Ok(first)
}

fn instructs(message: &ChatMessage<'_>) -> bool {
    matches!(message.role.as_deref(), Some("system" | "developer"))
}

fn instruction(out: &mut String, message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    alone(message)?;
    parts(message.content, |part| match part {
        Piece::Text(text) => {
            text_block(out, text, None);
            Ok(())
        }
        Piece::Part(part) if part.kind.as_deref() == Some("text") => text_part(out, part),
        Piece::Part(_) => Err(TranslateError::invalid("type", "must be text in instructions")),
    })
}

/// A message that has a role and content only.
fn alone(message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    message.refuse_unknown()?;
    // The name of a result is that of the tool, which its call has named.
    let result = message.role.as_deref() == Some("tool");
    let others = [
        ("name", message.name.is_some() && !result),
        ("tool_calls", message.tool_calls.is_some()),
        ("function_call", message.function_call.is_some()),
        ("audio", message.audio.is_some()),
    ];
    match others.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(TranslateError::inexpressible(*field, "has no counterpart in Anthropic's messages")),
        None => Ok(()),
    }
}

/// Writes the conversation. Neighbours of one role become one turn: the results of several calls belong into one.
pub(super) fn messages(out: &mut String, messages: &[ChatMessage<'_>], first: usize) -> Result<(), TranslateError> {
    out.push('[');
    let mut open: Option<&str> = None;
    for (index, message) in messages.iter().enumerate().skip(first) {
        let role = match message.role.as_deref() {
            Some("user" | "tool") => "user",
            Some("assistant") => "assistant",
            Some("system" | "developer") => {
                return Err(TranslateError::inexpressible(
                    format!("messages[{index}].role"),
                    "cannot give instructions after the conversation began: Anthropic takes them only before it",
                ));
            }
            Some("function") => {
                return Err(TranslateError::inexpressible(
                    format!("messages[{index}].role"),
                    "cannot be function: use tool",
                ));
            }
            _ => {
                return Err(TranslateError::invalid(
                    format!("messages[{index}].role"),
                    "must be system, developer, user, assistant or tool",
                ));
            }
        };
        let before = (out.len(), open);
        if open != Some(role) {
            if open.is_some() {
                out.push_str("]},");
            }
            out.push_str("{\"role\":\"");
            out.push_str(role);
            out.push_str("\",\"content\":[");
            open = Some(role);
        }
        turn(out, message).under(format_args!("messages[{index}]"))?;
        if out.ends_with('[') {
            if role == "user" {
                return Err(TranslateError::invalid(format!("messages[{index}].content"), "must not be empty"));
            }
            // An assistant that said nothing is no turn at Anthropic.
            out.truncate(before.0);
            open = before.1;
        }
    }
    if open == Some("assistant") {
        return Err(TranslateError::inexpressible(
            format!("messages[{}].role", messages.len() - 1),
            "cannot be assistant at the end: Anthropic would go on with that answer instead of giving a new one",
        ));
    }
    if open.is_none() {
        return Err(TranslateError::inexpressible("messages", "must hold more than instructions for Anthropic"));
    }
    out.push_str("]}]");
    Ok(())
}

fn turn(out: &mut String, message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    match message.role.as_deref() {
        Some("assistant") => assistant(out, message),
        Some("tool") => result(out, message),
        _ => {
            alone(message)?;
            parts(message.content, |piece| match piece {
                Piece::Text(text) => {
                    text_block(out, text, None);
                    Ok(())
                }
                Piece::Part(part) => user_part(out, part),
            })
        }
    }
}

fn user_part(out: &mut String, part: &ChatPart<'_>) -> Result<(), TranslateError> {
    match part.kind.as_deref() {
        Some("text") => text_part(out, part),
        Some("image_url") => {
            part.refuse_unknown()?;
            let image = part.image_url.as_ref().ok_or_else(|| TranslateError::invalid("image_url", "is required"))?;
            image_block(out, image, part.cache_control).under("image_url")
        }
        Some("file") => {
            part.refuse_unknown()?;
            let file = part.file.as_ref().ok_or_else(|| TranslateError::invalid("file", "is required"))?;
            document(out, file, part.cache_control).under("file")
        }
        Some("input_audio") => {
            Err(TranslateError::inexpressible("input_audio", "cannot be heard by Anthropic's models"))
        }
        _ => Err(TranslateError::invalid("type", "must be text, image_url, file or input_audio")),
    }
}

fn assistant(out: &mut String, message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    message.refuse_unknown()?;
    for (field, value) in [("name", message.name), ("function_call", message.function_call), ("audio", message.audio)] {
        if value.is_some() {
            return Err(TranslateError::inexpressible(field, "has no counterpart in Anthropic's messages"));
        }
    }
    for (index, block) in message.thinking_blocks.iter().flatten().enumerate() {
        thought(out, block).under(format_args!("thinking_blocks[{index}]"))?;
    }
    parts(message.content, |piece| match piece {
        Piece::Text(text) => {
            text_block(out, text, None);
            Ok(())
        }
        Piece::Part(part) => match part.kind.as_deref() {
            Some("text") => text_part(out, part),
            Some("refusal") => {
                text_block(out, part.refusal.unwrap_or(Text::EMPTY), None);
                Ok(())
            }
            _ => Err(TranslateError::invalid("type", "must be text or refusal")),
        },
    })?;
    if let Some(refusal) = message.refusal {
        text_block(out, refusal, None);
    }
    for (index, call) in message.tool_calls.iter().flatten().enumerate() {
        tools::call(out, call).under(format_args!("tool_calls[{index}]"))?;
    }
    Ok(())
}

/// What was thought before, if it came with the signature that Anthropic asks for.
fn thought(out: &mut String, block: &super::super::wire::Block<'_>) -> Result<(), TranslateError> {
    match (block.kind.as_deref(), block.thinking, block.signature, block.data) {
        (Some("thinking"), Some(thinking), Some(signature), _) => {
            if !signature.is_empty() {
                comma(out);
                let mut object = Object::open(out);
                object.raw("type", "\"thinking\"").raw("thinking", thinking.literal());
                object.raw("signature", signature.literal()).end();
            }
            Ok(())
        }
        (Some("redacted_thinking"), _, _, Some(data)) => {
            comma(out);
            Object::open(out).raw("type", "\"redacted_thinking\"").raw("data", data.literal()).end();
            Ok(())
        }
        _ => Err(TranslateError::invalid("", "must be thinking with a signature, or redacted_thinking with data")),
    }
}

/// The result of a call.
fn result(out: &mut String, message: &ChatMessage<'_>) -> Result<(), TranslateError> {
    alone(message)?;
    let id = message.tool_call_id.ok_or_else(|| TranslateError::invalid("tool_call_id", "is required"))?;
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"tool_result\"").raw("tool_use_id", id.literal());
    if let Some(text) = message.content.and_then(Text::of) {
        object.raw("content", text.literal());
        object.close();
        return Ok(());
    }
    let blocks = object.field("content");
    blocks.push('[');
    let (mut failed, mut cache) = (false, None);
    parts(message.content, |piece| match piece {
        Piece::Part(part) if part.kind.as_deref() == Some("text") => {
            if !failed && blocks.ends_with('[') && part.text.is_some_and(|text| text.inner() == FAILED) {
                failed = true;
                return Ok(());
            }
            cache = part.cache_control.or(cache);
            part.refuse_unknown()?;
            text_block(blocks, part.text.unwrap_or(Text::EMPTY), None);
            Ok(())
        }
        _ => Err(TranslateError::invalid("type", "must be text in the result of a call")),
    })?;
    blocks.push(']');
    if failed {
        object.raw("is_error", "true");
    }
    if let Some(cache) = cache {
        object.raw("cache_control", cache.get());
    }
    object.close();
    Ok(())
}

/// Content is a text or parts.
enum Piece<'p, 'a> {
    Text(Text<'a>),
    Part(&'p ChatPart<'a>),
}

fn parts<'a>(
    content: Option<Raw<'a>>,
    mut each: impl FnMut(Piece<'_, 'a>) -> Result<(), TranslateError>,
) -> Result<(), TranslateError> {
    let Some(content) = content else { return Ok(()) };
    if let Some(text) = Text::of(content) {
        return each(Piece::Text(text)).under("content");
    }
    let parts: Vec<ChatPart<'a>> = read(content).under("content")?;
    for (index, part) in parts.iter().enumerate() {
        each(Piece::Part(part)).under(format_args!("content[{index}]"))?;
    }
    Ok(())
}

fn text_part(out: &mut String, part: &ChatPart<'_>) -> Result<(), TranslateError> {
    part.refuse_unknown()?;
    let text = part.text.ok_or_else(|| TranslateError::invalid("text", "is required"))?;
    text_block(out, text, part.cache_control);
    Ok(())
}

/// Anthropic refuses empty texts, and they say nothing.
fn text_block(out: &mut String, text: Text<'_>, cache_control: Option<Raw<'_>>) {
    if text.is_empty() {
        return;
    }
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"text\"").raw("text", text.literal());
    marked(object, cache_control);
}

fn marked(mut object: Object<'_>, cache_control: Option<Raw<'_>>) {
    if let Some(cache_control) = cache_control {
        object.raw("cache_control", cache_control.get());
    }
    object.close();
}

fn image_block(out: &mut String, image: &ImageUrl<'_>, cache_control: Option<Raw<'_>>) -> Result<(), TranslateError> {
    image.refuse_unknown()?;
    if image.detail.as_deref() == Some("low") {
        return Err(TranslateError::inexpressible("detail", "cannot be low: Anthropic sees every image in full"));
    }
    let url = image.url.as_deref().ok_or_else(|| TranslateError::invalid("url", "is required"))?;
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"image\"");
    source(&mut object, url)?;
    marked(object, cache_control);
    Ok(())
}

fn source(object: &mut Object<'_>, url: &str) -> Result<(), TranslateError> {
    let mut source = Object::open(object.field("source"));
    if url.starts_with("data:") {
        let (media_type, data) = data_url(url)
            .ok_or_else(|| TranslateError::inexpressible("url", "must be a data URL in base64 with a media type"))?;
        source.raw("type", "\"base64\"").string("media_type", media_type).string("data", data);
    } else if url.starts_with("https://") || url.starts_with("http://") {
        source.raw("type", "\"url\"").string("url", url);
    } else {
        return Err(TranslateError::invalid("url", "must be an http or data URL"));
    }
    source.close();
    Ok(())
}

fn document(out: &mut String, file: &ChatFile<'_>, cache_control: Option<Raw<'_>>) -> Result<(), TranslateError> {
    file.refuse_unknown()?;
    if file.file_id.is_some() {
        return Err(TranslateError::inexpressible("file_id", "leads to a file that Anthropic does not have"));
    }
    let url = file.file_data.as_deref().ok_or_else(|| TranslateError::invalid("file_data", "is required"))?;
    let Some(("application/pdf", data)) = data_url(url) else {
        return Err(TranslateError::inexpressible("file_data", "must be a PDF in a data URL in base64"));
    };
    comma(out);
    let mut object = Object::open(out);
    object.raw("type", "\"document\"");
    let mut source = Object::open(object.field("source"));
    source.raw("type", "\"base64\"").raw("media_type", "\"application/pdf\"");
    quote(source.field("data"), data);
    source.close();
    if let Some(name) = file.filename {
        object.raw("title", name.literal());
    }
    marked(object, cache_control);
    Ok(())
}
