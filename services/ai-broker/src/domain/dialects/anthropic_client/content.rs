//! Messages: what is said by whom.

use super::super::FAILED;
use super::super::TranslateError;
use super::super::error::Under;
use super::super::json::{Object, Raw, Text, Word, comma, escape, read};
use super::super::wire::{Block, Source, TurnMessage};

/// The instructions, as the first message.
pub(super) fn system(out: &mut String, system: Option<Raw<'_>>) -> Result<(), TranslateError> {
    let Some(system) = system else { return Ok(()) };
    if let Some(text) = Text::of(system) {
        if !text.is_empty() {
            plain(out, "system", text);
        }
        return Ok(());
    }
    let blocks: Vec<Block<'_>> = read(system)?;
    if blocks.is_empty() {
        return Ok(());
    }
    let texts = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| only_text(block).under(format_args!("[{index}]")))
        .collect::<Result<Vec<_>, _>>()?;
    comma(out);
    let mut message = Object::open(out);
    message.raw("role", "\"system\"");
    texts_as_content(&mut message, &texts);
    message.close();
    Ok(())
}

fn plain(out: &mut String, role: &str, text: Text<'_>) {
    comma(out);
    Object::open(out).string("role", role).raw("content", text.literal()).end();
}

/// One text is a string, which every server takes; several are parts.
fn texts_as_content(message: &mut Object<'_>, texts: &[Text<'_>]) {
    match texts {
        [text] => drop(message.raw("content", text.literal())),
        texts => {
            let out = message.field("content");
            out.push('[');
            texts.iter().for_each(|text| text_part(out, text.literal()));
            out.push(']');
        }
    }
}

fn text_part(out: &mut String, literal: &str) {
    comma(out);
    Object::open(out).raw("type", "\"text\"").raw("text", literal).end();
}

/// The text of a block that must be one. That it may be cached is a hint.
fn only_text<'a>(block: &Block<'a>) -> Result<Text<'a>, TranslateError> {
    if block.kind.as_deref() != Some("text") {
        return Err(TranslateError::inexpressible("type", "can only be text here"));
    }
    block.refuse_unknown()?;
    block.text.ok_or_else(|| TranslateError::invalid("text", "is required"))
}

pub(super) fn message(out: &mut String, message: &TurnMessage<'_>) -> Result<(), TranslateError> {
    message.refuse_unknown()?;
    let role = message.role.as_deref().unwrap_or_default();
    if role != "user" && role != "assistant" {
        return Err(TranslateError::invalid("role", "must be user or assistant"));
    }
    let content = message.content.ok_or_else(|| TranslateError::invalid("content", "is required"))?;
    if let Some(text) = Text::of(content) {
        plain(out, role, text);
        return Ok(());
    }
    let blocks: Vec<Block<'_>> = read(content).under("content")?;
    if blocks.is_empty() {
        return Err(TranslateError::invalid("content", "must not be empty"));
    }
    if role == "user" { user(out, &blocks) } else { assistant(out, &blocks) }
}

fn is(block: &Block<'_>, kind: &str) -> bool {
    block.kind.as_deref() == Some(kind)
}

/// Results become messages of their own, and come first: OpenAI wants them right after the calls.
fn user(out: &mut String, blocks: &[Block<'_>]) -> Result<(), TranslateError> {
    for (index, block) in blocks.iter().enumerate().filter(|(_, block)| is(block, "tool_result")) {
        result(out, block).under(format_args!("content[{index}]"))?;
    }
    let said = || blocks.iter().enumerate().filter(|(_, block)| !is(block, "tool_result"));
    if said().next().is_none() {
        return Ok(());
    }
    comma(out);
    let mut message = Object::open(out);
    message.raw("role", "\"user\"");
    let texts: Option<Vec<Text<'_>>> =
        said().map(|(_, block)| block.text.filter(|_| is(block, "text") && block.unknown.is_none())).collect();
    if let Some([text]) = texts.as_deref() {
        message.raw("content", text.literal());
        message.close();
        return Ok(());
    }
    let parts = message.field("content");
    parts.push('[');
    for (index, block) in said() {
        part(parts, block).under(format_args!("content[{index}]"))?;
    }
    parts.push(']');
    message.close();
    Ok(())
}

fn part(out: &mut String, block: &Block<'_>) -> Result<(), TranslateError> {
    match block.kind.as_deref() {
        Some("text") => {
            let text = only_text(block)?;
            text_part(out, text.literal());
            Ok(())
        }
        Some("image") => {
            block.refuse_unknown()?;
            image(out, source_of(block)?).under("source")
        }
        Some("document") => {
            block.refuse_unknown()?;
            if block.context.is_some() || block.citations.is_some_and(|citations| citations.get().contains("true")) {
                return Err(TranslateError::inexpressible(
                    "citations",
                    "have no counterpart in OpenAI's chat completions",
                ));
            }
            document(out, block, source_of(block)?).under("source")
        }
        _ => Err(TranslateError::inexpressible("type", "has no counterpart in OpenAI's chat completions")),
    }
}

fn source_of<'b, 'a>(block: &'b Block<'a>) -> Result<&'b Source<'a>, TranslateError> {
    block.source.as_ref().ok_or_else(|| TranslateError::invalid("source", "is required"))
}

fn image(out: &mut String, source: &Source<'_>) -> Result<(), TranslateError> {
    source.refuse_unknown()?;
    let from = (source.kind.as_deref(), source.media_type.as_deref(), source.data.as_deref(), source.url);
    comma(out);
    let mut part = Object::open(out);
    part.raw("type", "\"image_url\"");
    let mut image = Object::open(part.field("image_url"));
    match from {
        (Some("base64"), Some(media_type), Some(data), _) => data_url(image.field("url"), media_type, data),
        (Some("url"), _, _, Some(url)) => drop(image.raw("url", url.literal())),
        (Some("file"), ..) => {
            return Err(TranslateError::inexpressible("file_id", "leads to a file that the provider does not have"));
        }
        _ => return Err(TranslateError::invalid("type", "must be base64, url or file, with what belongs to it")),
    }
    image.close();
    part.close();
    Ok(())
}

fn data_url(out: &mut String, media_type: &str, data: &str) {
    out.push_str("\"data:");
    escape(out, media_type);
    out.push_str(";base64,");
    escape(out, data);
    out.push('"');
}

fn document(out: &mut String, block: &Block<'_>, source: &Source<'_>) -> Result<(), TranslateError> {
    source.refuse_unknown()?;
    match (source.kind.as_deref(), source.media_type.as_deref(), source.data.as_ref()) {
        (Some("base64"), Some("application/pdf"), Some(Word(data))) => {
            comma(out);
            let mut part = Object::open(out);
            part.raw("type", "\"file\"");
            let mut file = Object::open(part.field("file"));
            file.raw("filename", block.title.map_or("\"document.pdf\"", Text::literal));
            data_url(file.field("file_data"), "application/pdf", data);
            file.close();
            part.close();
            Ok(())
        }
        (Some("text"), Some("text/plain"), Some(Word(data))) => {
            comma(out);
            Object::open(out).raw("type", "\"text\"").string("text", data).end();
            Ok(())
        }
        _ => Err(TranslateError::inexpressible("type", "can only be a PDF in base64 or plain text")),
    }
}

/// The result of a call; that it failed is said in words, as there is no mark for it.
fn result(out: &mut String, block: &Block<'_>) -> Result<(), TranslateError> {
    block.refuse_unknown()?;
    let id = block.tool_use_id.ok_or_else(|| TranslateError::invalid("tool_use_id", "is required"))?;
    let texts: Vec<Text<'_>> = match block.content {
        None => vec![Text::EMPTY],
        Some(content) => match Text::of(content) {
            Some(text) => vec![text],
            None => {
                let blocks: Vec<Block<'_>> = read(content).under("content")?;
                let texts = blocks.iter().enumerate();
                texts
                    .map(|(index, block)| only_text(block).under(format_args!("content[{index}]")))
                    .collect::<Result<_, _>>()?
            }
        },
    };
    comma(out);
    let mut message = Object::open(out);
    message.raw("role", "\"tool\"").raw("tool_call_id", id.literal());
    if block.is_error == Some(true) {
        let parts = message.field("content");
        parts.push_str("[{\"type\":\"text\",\"text\":\"");
        parts.push_str(FAILED);
        parts.push_str("\"}");
        texts.iter().filter(|text| !text.is_empty()).for_each(|text| text_part(parts, text.literal()));
        parts.push(']');
    } else if texts.is_empty() {
        message.raw("content", "\"\"");
    } else {
        texts_as_content(&mut message, &texts);
    }
    message.close();
    Ok(())
}

/// What was thought is left out: only the model that thought it can read it.
fn assistant(out: &mut String, blocks: &[Block<'_>]) -> Result<(), TranslateError> {
    let mut texts = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        match block.kind.as_deref() {
            Some("text") => texts.push(only_text(block).under(format_args!("content[{index}]"))?),
            Some("tool_use" | "thinking" | "redacted_thinking") => {}
            _ => {
                return Err(TranslateError::inexpressible(
                    format!("content[{index}].type"),
                    "has no counterpart in OpenAI's chat completions",
                ));
            }
        }
    }
    let calls = || blocks.iter().enumerate().filter(|(_, block)| is(block, "tool_use"));
    comma(out);
    let mut message = Object::open(out);
    message.raw("role", "\"assistant\"");
    match (texts.as_slice(), calls().next()) {
        ([], Some(_)) => drop(message.raw("content", "null")),
        ([], None) => drop(message.raw("content", "\"\"")),
        (texts, _) => texts_as_content(&mut message, texts),
    }
    if calls().next().is_some() {
        let array = message.field("tool_calls");
        array.push('[');
        for (index, block) in calls() {
            call(array, block).under(format_args!("content[{index}]"))?;
        }
        array.push(']');
    }
    message.close();
    Ok(())
}

fn call(out: &mut String, block: &Block<'_>) -> Result<(), TranslateError> {
    block.refuse_unknown()?;
    let id = block.id.ok_or_else(|| TranslateError::invalid("id", "is required"))?;
    let name = block.name.ok_or_else(|| TranslateError::invalid("name", "is required"))?;
    comma(out);
    let mut call = Object::open(out);
    call.raw("id", id.literal()).raw("type", "\"function\"");
    let mut function = Object::open(call.field("function"));
    function.raw("name", name.literal()).string("arguments", block.input.map_or("{}", |input| input.get()));
    function.close();
    call.close();
    Ok(())
}
