//! Dialects: what one provider's clients say, in the words of another's API, and what an answer used, in each.
//!
//! Pure functions over bytes. Two directions, each with requests, whole answers and streams:
//!
//! | module | the client speaks | the provider speaks |
//! |---|---|---|
//! | [`openai_client`] | OpenAI chat completions | Anthropic messages |
//! | [`anthropic_client`] | Anthropic messages | OpenAI chat completions |
//!
//! Pictures that are asked for in OpenAI's words are made by FAL's models, too: [`fal`].
//!
//! # What becomes of each field
//! A request is refused rather than changed behind the client's back. Each field is one of:
//! - *translated*: everything that both dialects can say, if in other words;
//! - *implied*: a value that says what the other side does anyway (`n: 1`, `logprobs: false`, a penalty of 0) is left out;
//! - *a hint*: what changes cost, speed or storage but never the answer (`prompt_cache_key`, `prediction`, `metadata` of OpenAI;
//!   `cache_control` on the way to OpenAI, which caches by itself) is left out; so is what a model thought in earlier turns on the
//!   way to a provider that cannot read it;
//! - *inexpressible*: anything else, fields that are not known included, is a [`TranslateError`] that names the field, unless the
//!   route's configuration lists it in [`Target::may_drop`].
//!
//! An assistant's message at the end is inexpressible both ways: Anthropic goes on with it, OpenAI answers anew.
//!
//! An answer cannot be refused, since it is paid for: what the client's dialect has no place for (citations, log probabilities,
//! fields that are not known) is left out. What chat completions have no place for but clients send back, thinking with its
//! signature, travels in the fields `reasoning_content` and `thinking_blocks` that other gateways use too, and the stop sequence
//! that was met in `stop_reason`, as vLLM has it.
//!
//! Texts and schemas are copied as they stand in the body, escapes and all: they are never decoded.

pub mod anthropic_client;
mod effort;
mod error;
pub mod errors;
pub mod fal;
mod json;
pub mod media;
pub mod openai_client;
pub mod usage;
mod wire;

pub use effort::ThinkingStyle;
pub use error::TranslateError;

/// What the provider of a translated request is like.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name there.
    pub model: &'a str,
    /// Output tokens at most when the request names no maximum: Anthropic demands one.
    pub default_max_tokens: u64,
    /// The field that bounds the output at OpenAI's kind: `max_completion_tokens`, or `max_tokens` at older servers.
    pub max_tokens_field: &'a str,
    /// How the model is told to think.
    pub thinking: ThinkingStyle,
    /// Top-level fields that may be left out although they are inexpressible.
    pub may_drop: &'a [String],
}

/// What a translated answer calls itself.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The answer's id; the provider's own if unset.
    pub id: Option<&'a str>,
    /// The model that the client asked for; the provider's own name if unset.
    pub model: Option<&'a str>,
    /// Seconds since 1970.
    pub created: i64,
}

/// How the result of a call that failed begins in a chat, where results have no such mark. Read back, it is the mark again.
const FAILED: &str = "The call failed:";

/// Media type and data of a `data:` URL in base64 (RFC 2397).
fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    // Parameters such as a character set belong to the type, but no image or PDF has one.
    let media_type = media_type.split(';').next().unwrap_or_default();
    (!media_type.is_empty()).then_some((media_type, data))
}
