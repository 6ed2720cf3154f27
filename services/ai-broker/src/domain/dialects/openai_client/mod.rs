//! A client that speaks OpenAI's chat completions, and a provider that speaks Anthropic's messages.

mod answer;
mod content;
mod request;
mod stream;
mod tools;

pub use answer::answer;
pub use request::request;
pub use stream::Stream;

/// Anthropic's stop reason in OpenAI's words.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // `end_turn`, `stop_sequence`, `pause_turn`, and whatever comes to be.
        _ => "stop",
    }
}
