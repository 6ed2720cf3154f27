//! A client that speaks Anthropic's messages, and a provider that speaks OpenAI's chat completions.

mod alike;
mod answer;
mod content;
mod request;
mod stream;

pub use answer::answer;
pub use request::request;
pub use stream::Stream;

/// OpenAI's finish reason in Anthropic's words; `called` says that a tool was called, whatever the reason says: some servers say
/// `stop` then.
fn stop_reason(finish_reason: Option<&str>, called: bool, stopped: bool) -> &'static str {
    match finish_reason {
        Some("length") => "max_tokens",
        Some("content_filter") => "refusal",
        _ if called => "tool_use",
        _ if stopped => "stop_sequence",
        _ => "end_turn",
    }
}
