//! What a provider says that an answer used (the `usage` object of OpenAI's dialect).

use serde::Deserialize;
use weir_types::price::Tokens;

#[derive(Deserialize)]
struct Answer {
    usage: Option<Usage>,
}

/// The `usage` object.
#[derive(Deserialize)]
pub(crate) struct Usage {
    prompt_tokens: i64,
    #[serde(default)]
    completion_tokens: i64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<i64>,
}

impl Usage {
    /// The tokens, or nothing when they make no sense.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        let cached = self.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens).unwrap_or(0);
        let sensible = [self.prompt_tokens, self.completion_tokens, cached]
            .iter()
            .all(|n| (0..=weir_types::MAX_AMOUNT).contains(n));
        sensible.then(|| Tokens {
            input: self.prompt_tokens,
            cached_input: cached.min(self.prompt_tokens),
            output: self.completion_tokens,
        })
    }
}

/// What a plain answer says that it used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The provider's own count.
    Tokens(Tokens),
    /// An answer, but without a count that makes sense.
    Missing,
    /// Not a JSON object.
    Unreadable,
}

/// Reads the usage of a plain answer.
pub(crate) fn of_answer(body: &[u8]) -> Reported {
    match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => answer.usage.as_ref().and_then(Usage::tokens).map_or(Reported::Missing, Reported::Tokens),
        Err(_) if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok() => {
            Reported::Missing
        }
        Err(_) => Reported::Unreadable,
    }
}

/// Tokens of text by its length, where nobody counted: four bytes a token, as OpenAI's own rule of thumb has it
/// (<https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>).
pub(crate) fn estimated_tokens(bytes: i64) -> i64 {
    bytes.max(0).div_euclid(4) + i64::from(bytes.rem_euclid(4) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_count_is_read() {
        let body = br#"{"id":"x","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,
            "prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0}}}"#;
        assert_eq!(of_answer(body), Reported::Tokens(Tokens { input: 12, cached_input: 8, output: 3 }));
        let embedding = br#"{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        assert_eq!(of_answer(embedding), Reported::Tokens(Tokens { input: 5, cached_input: 0, output: 0 }));
    }

    #[test]
    fn a_count_that_makes_no_sense_is_none() {
        assert_eq!(of_answer(br#"{"usage":{"prompt_tokens":-1,"completion_tokens":3}}"#), Reported::Missing);
        assert_eq!(of_answer(br#"{"usage":{"prompt_tokens":"many"}}"#), Reported::Missing);
        assert_eq!(of_answer(br#"{"choices":[]}"#), Reported::Missing);
        assert_eq!(of_answer(b"<html>"), Reported::Unreadable);
        assert_eq!(of_answer(br#"{"usage":{"prompt_tokens":1"#), Reported::Unreadable);
        assert_eq!(of_answer(b""), Reported::Unreadable);
    }

    #[test]
    fn text_is_estimated_at_four_bytes_a_token() {
        assert_eq!([0, 1, 4, 5].map(estimated_tokens), [0, 1, 1, 2]);
    }
}
