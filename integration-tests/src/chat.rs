//! Chat requests with exactly so many input tokens.

use std::fmt::Write;
use std::sync::LazyLock;

use bytes::Bytes;

/// Words of three letters: with a space each they make four bytes a token, as usual text does.
const WORDS: [&str; 16] =
    ["the", "low", "dam", "has", "not", "let", "all", "run", "out", "yet", "and", "sea", "may", "now", "ebb", "far"];
/// More input tokens than any request has.
const MOST: usize = 1 << 17;

static TEXT: LazyLock<String> =
    LazyLock::new(|| WORDS.iter().cycle().take(MOST).flat_map(|word| [*word, " "]).collect());

/// A chat request's shape.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Input tokens by the simulated provider's count: words.
    pub input: u64,
    /// Exactly so many output tokens are answered.
    pub output: u64,
    /// Streamed, with the usage at the end.
    pub streamed: bool,
    /// A directive for the simulated provider, or nothing.
    pub simulate: &'a str,
}

impl Chat<'_> {
    /// The request's JSON.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let more = if self.streamed { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
        self.write("max_completion_tokens", more)
    }

    /// The same as a message of Anthropic's.
    #[must_use]
    pub fn message(&self) -> Bytes {
        self.write("max_tokens", if self.streamed { r#","stream":true"# } else { "" })
    }

    fn write(&self, bound: &str, more: &str) -> Bytes {
        let words = usize::try_from(self.input).unwrap_or(MOST).clamp(1, MOST);
        let text = &TEXT[..words * 4 - 1];
        let mut body = String::with_capacity(text.len() + 240);
        let _ = write!(
            body,
            r#"{{"model":"{}","messages":[{{"role":"user","content":"{text}"}}],"{bound}":{}{more}"#,
            self.model, self.output
        );
        if !self.simulate.is_empty() {
            let _ = write!(body, r#","metadata":{{"simulate":"{}"}}"#, self.simulate);
        }
        body.push('}');
        Bytes::from(body)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn a_request_has_as_many_words_as_tokens_and_four_bytes_for_each() {
        for input in [1, 2, 17, 14_050] {
            let body = Chat { model: "m", input, output: 5, streamed: true, simulate: "tag=x" }.body();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = body["messages"][0]["content"].as_str().unwrap();
            assert_eq!(text.split(' ').count() as u64, input);
            assert_eq!(text.len() as u64, input * 4 - 1);
        }
    }
}
