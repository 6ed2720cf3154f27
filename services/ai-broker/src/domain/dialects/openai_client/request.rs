//! The request.

use super::super::effort::{self, LEAST_BUDGET};
use super::super::error::Under;
use super::super::json::{Object, Raw, Text, comma, is_nothing, quote, read};
use super::super::wire::{ChatRequest, ResponseFormat};
use super::super::{Target, ThinkingStyle, TranslateError};
use super::{content, tools};

/// What Anthropic has no word for and `0`, `false` or nothing asks for nothing.
type Impossible<'a> = (&'static str, Option<Raw<'a>>);

/// Translates the body of a chat completion into that of a message.
///
/// # Errors
/// The body is not one, or asks for what Anthropic's API cannot say; the error names the field.
pub fn request(body: &[u8], target: &Target<'_>) -> Result<Vec<u8>, TranslateError> {
    let chat: ChatRequest<'_> = serde_json::from_slice(body)?;
    refuse_inexpressible(&chat, target)?;
    let messages = chat.messages.as_deref().unwrap_or_default();
    if messages.is_empty() {
        return Err(TranslateError::invalid("messages", "must not be empty"));
    }
    let mut out = String::with_capacity(body.len() + body.len() / 8 + 256);
    let mut object = Object::open(&mut out);
    object.string("model", target.model);
    let max_tokens = chat.max_completion_tokens.or(chat.max_tokens).unwrap_or(target.default_max_tokens);
    object.number("max_tokens", max_tokens);
    let first = content::system(&mut object, messages)?;
    content::messages(object.field("messages"), messages, first)?;
    let forced = tools::write(&mut object, &chat)?;
    sampling(&mut object, &chat)?;
    thinking(&mut object, &chat, target, max_tokens, forced)?;
    if let Some(user) = chat.user.or(chat.safety_identifier) {
        Object::open(object.field("metadata")).raw("user_id", user.literal()).end();
    }
    service_tier(&mut object, &chat)?;
    if chat.stream == Some(true) {
        object.raw("stream", "true");
    }
    object.close();
    Ok(out.into_bytes())
}

fn refuse_inexpressible(chat: &ChatRequest<'_>, target: &Target<'_>) -> Result<(), TranslateError> {
    let may_drop = |field: &str| target.may_drop.iter().any(|name| name == field);
    if let Some(unknown) = chat.unknown.as_ref().filter(|name| !may_drop(name)) {
        return Err(TranslateError::unknown(unknown));
    }
    let impossible: [Impossible<'_>; 12] = [
        ("store", chat.store),
        ("logprobs", chat.logprobs),
        ("top_logprobs", chat.top_logprobs),
        ("logit_bias", chat.logit_bias),
        ("frequency_penalty", chat.frequency_penalty),
        ("presence_penalty", chat.presence_penalty),
        ("seed", chat.seed),
        ("audio", chat.audio),
        ("functions", chat.functions),
        ("function_call", chat.function_call),
        ("web_search_options", chat.web_search_options),
        ("moderation", chat.moderation),
    ];
    for (field, value) in impossible {
        // A seed of 0 and options without entries ask for something all the same.
        let asks = |raw: Raw<'_>| matches!(field, "seed" | "web_search_options") || !is_nothing(raw);
        if value.is_some_and(asks) && !may_drop(field) {
            return Err(TranslateError::inexpressible(field, "has no counterpart in Anthropic's messages"));
        }
    }
    if chat.n.is_some_and(|n| n != 1) && !may_drop("n") {
        return Err(TranslateError::inexpressible("n", "can only be 1: a message is one answer"));
    }
    let speaks = |kinds: &Vec<_>| kinds.iter().any(|kind: &super::super::json::Word<'_>| &**kind != "text");
    if chat.modalities.as_ref().is_some_and(speaks) && !may_drop("modalities") {
        return Err(TranslateError::inexpressible("modalities", "can only be text"));
    }
    if chat.verbosity.as_ref().is_some_and(|verbosity| &**verbosity != "medium") && !may_drop("verbosity") {
        return Err(TranslateError::inexpressible("verbosity", "has no counterpart in Anthropic's messages"));
    }
    match chat.stream_options.as_ref() {
        Some(options) => options.refuse_unknown().under("stream_options"),
        None => Ok(()),
    }
}

fn sampling(object: &mut Object<'_>, chat: &ChatRequest<'_>) -> Result<(), TranslateError> {
    if let Some(temperature) = chat.temperature {
        let value: f64 = read(temperature).under("temperature")?;
        if value > 1.0 {
            return Err(TranslateError::inexpressible("temperature", "can be at most 1 at Anthropic"));
        }
        object.raw("temperature", temperature.get());
    }
    if let Some(top_p) = chat.top_p {
        object.raw("top_p", top_p.get());
    }
    let Some(stop) = chat.stop else { return Ok(()) };
    let sequences: Vec<Text<'_>> = match Text::of(stop) {
        Some(one) => vec![one],
        None => read(stop).under("stop")?,
    };
    if !sequences.is_empty() {
        let out = object.field("stop_sequences");
        out.push('[');
        for sequence in sequences {
            comma(out);
            out.push_str(sequence.literal());
        }
        out.push(']');
    }
    Ok(())
}

/// How hard to think and what form the answer shall have share a field.
fn thinking(
    object: &mut Object<'_>,
    chat: &ChatRequest<'_>,
    target: &Target<'_>,
    max_tokens: u64,
    forced: bool,
) -> Result<(), TranslateError> {
    let schema = chat.response_format.as_ref().map(schema).transpose().under("response_format")?.flatten();
    let effort = match chat.reasoning_effort.as_deref() {
        None | Some("none") => None,
        Some(effort) => Some(effort::word(effort).ok_or_else(|| {
            TranslateError::invalid("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max")
        })?),
    };
    if effort.is_some() && forced {
        return Err(TranslateError::inexpressible(
            "tool_choice",
            "cannot force a call while `reasoning_effort` makes the model think",
        ));
    }
    if effort.is_some() {
        settled_sampling(chat)?;
    }
    if let Some(word) = effort {
        let mut thinking = Object::open(object.field("thinking"));
        match target.thinking {
            ThinkingStyle::Effort => thinking.raw("type", "\"adaptive\""),
            ThinkingStyle::Budget => {
                let most = max_tokens.saturating_sub(1);
                if most < LEAST_BUDGET {
                    return Err(TranslateError::inexpressible(
                        "reasoning_effort",
                        format!("needs a maximum of more than {LEAST_BUDGET} tokens for Anthropic to think"),
                    ));
                }
                let budget = effort::budget(word).unwrap_or(LEAST_BUDGET).min(most);
                thinking.raw("type", "\"enabled\"").number("budget_tokens", budget)
            }
        };
        thinking.close();
    }
    let effort = effort.filter(|_| target.thinking == ThinkingStyle::Effort);
    if effort.is_some() || schema.is_some() {
        let mut config = Object::open(object.field("output_config"));
        if let Some(word) = effort {
            config.string("effort", word);
        }
        if let Some(schema) = schema {
            Object::open(config.field("format")).raw("type", "\"json_schema\"").raw("schema", schema.get()).end();
        }
        config.close();
    }
    Ok(())
}

/// While a model of Anthropic's thinks, its temperature is 1 and it leaves out little.
fn settled_sampling(chat: &ChatRequest<'_>) -> Result<(), TranslateError> {
    let told = |value: Option<Raw<'_>>| value.and_then(|value| read::<f64>(value).ok());
    if told(chat.temperature).is_some_and(|temperature| temperature < 1.0) {
        return Err(TranslateError::inexpressible(
            "temperature",
            "can only be 1 while `reasoning_effort` makes the model think",
        ));
    }
    if told(chat.top_p).is_some_and(|top_p| top_p < 0.95) {
        return Err(TranslateError::inexpressible(
            "top_p",
            "can only be 0.95 to 1 while `reasoning_effort` makes the model think",
        ));
    }
    Ok(())
}

/// The schema that an answer shall have, if it is more than text.
fn schema<'a>(format: &ResponseFormat<'a>) -> Result<Option<Raw<'a>>, TranslateError> {
    format.refuse_unknown()?;
    match format.kind.as_deref() {
        Some("text") => Ok(None),
        Some("json_schema") => {
            let schema =
                format.json_schema.as_ref().ok_or_else(|| TranslateError::invalid("json_schema", "is required"))?;
            schema.refuse_unknown().under("json_schema")?;
            // Anthropic always holds to the schema; its name is for people.
            schema.schema.map(Some).ok_or_else(|| {
                TranslateError::inexpressible(
                    "json_schema.schema",
                    "is required: Anthropic has no JSON without a schema",
                )
            })
        }
        Some("json_object") => {
            Err(TranslateError::inexpressible("type", "cannot be json_object: Anthropic has no JSON without a schema"))
        }
        _ => Err(TranslateError::invalid("type", "must be text, json_schema or json_object")),
    }
}

fn service_tier(object: &mut Object<'_>, chat: &ChatRequest<'_>) -> Result<(), TranslateError> {
    match chat.service_tier.as_deref() {
        None | Some("auto") => Ok(()),
        Some("default") => {
            quote(object.field("service_tier"), "standard_only");
            Ok(())
        }
        Some(_) => Err(TranslateError::inexpressible("service_tier", "can only be auto or default at Anthropic")),
    }
}
