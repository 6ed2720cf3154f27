//! Translation between OpenAI's chat completions and Anthropic's messages.

mod answers;
mod assembled;
mod doubles;
mod generated;
mod requests;
mod round_trips;
mod streams;

use serde_json::Value;
use weir_ai_broker::domain::dialects::{
    Envelope, Target, ThinkingStyle, TranslateError, anthropic_client, openai_client,
};

fn target() -> Target<'static> {
    Target {
        model: "the-model",
        default_max_tokens: 4_096,
        max_tokens_field: "max_completion_tokens",
        thinking: ThinkingStyle::Budget,
        may_drop: &[],
    }
}

const ENVELOPE: Envelope<'static> = Envelope { id: None, model: None, created: 1_700_000_000 };

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("what is translated is JSON")
}

/// A chat completion's request as a message's.
fn to_messages(chat: &Value) -> Result<Value, TranslateError> {
    openai_client::request(chat.to_string().as_bytes(), &target()).map(|body| parsed(&body))
}

/// A message's request as a chat completion's.
fn to_chat(message: &Value) -> Result<Value, TranslateError> {
    anthropic_client::request(message.to_string().as_bytes(), &target()).map(|body| parsed(&body))
}

/// A message as a chat completion.
fn chat_answer(message: &Value) -> Value {
    parsed(&openai_client::answer(message.to_string().as_bytes(), &ENVELOPE).expect("a message"))
}

/// A chat completion as a message.
fn message_answer(chat: &Value) -> Value {
    parsed(&anthropic_client::answer(chat.to_string().as_bytes(), &ENVELOPE).expect("a chat completion"))
}
