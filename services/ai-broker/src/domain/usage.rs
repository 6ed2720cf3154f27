//! What a provider says that an answer used.

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_types::price::{Metered, Tokens};

use super::dialects::usage::{Dialect, Tier, Usage};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

impl Answer<'_> {
    fn metered(&self, dialect: Dialect) -> Option<Metered> {
        let usage = self.usage?;
        let said = match dialect {
            Dialect::Messages => Tier::of_usage(usage),
            _ => self.service_tier.map(Tier::of),
        };
        let tokens = Tokens::from(Usage::of(dialect, usage.get().as_bytes())?);
        Some(Metered { tier: said.and_then(Tier::name).map(str::to_owned), ..tokens.into() })
    }
}

/// What a plain answer says that it used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The provider's own count, or what is known without it.
    Used(Metered),
    /// An answer, but without a count that makes sense.
    Missing,
    /// Not a JSON object.
    Unreadable,
}

/// Reads the usage of a plain answer.
pub(crate) fn of_answer(dialect: Dialect, body: &[u8]) -> Reported {
    match serde_json::from_slice::<Answer<'_>>(body) {
        Ok(answer) => answer.metered(dialect).map_or(Reported::Missing, Reported::Used),
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

    fn of_chat(body: &[u8]) -> Reported {
        of_answer(Dialect::Chat, body)
    }

    #[test]
    fn the_providers_count_is_read() {
        let body = br#"{"id":"x","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,
            "prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0}}}"#;
        let tokens = Tokens { input: 12, cached_input: 8, output: 3, ..Tokens::default() };
        assert_eq!(of_chat(body), Reported::Used(tokens.into()));
        let embedding = br#"{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        assert_eq!(of_chat(embedding), Reported::Used(Tokens { input: 5, ..Tokens::default() }.into()));
    }

    #[test]
    fn the_price_that_an_answer_was_served_at_is_read_where_its_dialect_says_it() {
        let tier = |dialect, body: &str| match of_answer(dialect, body.as_bytes()) {
            Reported::Used(used) => used.tier,
            other => panic!("{other:?}"),
        };
        let chat = |tier: &str| format!(r#"{{"usage":{{"prompt_tokens":1}},"service_tier":{tier}}}"#);
        assert_eq!(tier(Dialect::Chat, &chat("\"flex\"")).as_deref(), Some("flex"));
        for usual in ["\"default\"", "null", "7", "\"unheard of\""] {
            assert_eq!(tier(Dialect::Chat, &chat(usual)), None, "{usual}");
        }
        let message = r#"{"service_tier":"flex","usage":{"input_tokens":1,"service_tier":"priority"}}"#;
        assert_eq!(tier(Dialect::Messages, message).as_deref(), Some("priority"));
    }

    #[test]
    fn a_count_that_makes_no_sense_is_none() {
        assert_eq!(of_chat(br#"{"usage":{"prompt_tokens":-1,"completion_tokens":3}}"#), Reported::Missing);
        assert_eq!(of_chat(br#"{"usage":{"prompt_tokens":"many"}}"#), Reported::Missing);
        assert_eq!(of_chat(br#"{"choices":[]}"#), Reported::Missing);
        assert_eq!(of_chat(b"<html>"), Reported::Unreadable);
        assert_eq!(of_chat(br#"{"usage":{"prompt_tokens":1"#), Reported::Unreadable);
        assert_eq!(of_chat(b""), Reported::Unreadable);
    }

    #[test]
    fn text_is_estimated_at_four_bytes_a_token() {
        assert_eq!([0, 1, 4, 5].map(estimated_tokens), [0, 1, 1, 2]);
    }
}
