//! The body of a chat answer that is sent in one piece.

use std::io::Write;

use super::prompt::Shape;
use crate::ids::Id;
use crate::text::{append_words, words_capacity};

/// What an answer says.
#[derive(Debug, Clone)]
pub(crate) struct Answer<'a> {
    /// A JSON string.
    pub(crate) model: &'a str,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) choices: u64,
    /// Of one choice.
    pub(crate) tokens: u64,
    pub(crate) shape: &'a Shape,
    pub(crate) finish_reason: &'a str,
    pub(crate) service_tier: &'a str,
    /// None if the answer shall not say.
    pub(crate) usage: Option<Usage>,
}

/// What an answer says it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
}

/// What stands around the words of a shape, escaped for a JSON string.
pub(crate) fn frame(shape: &Shape) -> (&'static str, &'static str) {
    match shape {
        Shape::Text => ("", ""),
        Shape::Json | Shape::Tool(_) => (r#"{\"text\":\""#, r#"\"}"#),
    }
}

/// Writes to a vector, which cannot fail.
macro_rules! put {
    ($out:expr, $($piece:tt)*) => {{ let _ = write!($out, $($piece)*); }};
}
pub(crate) use put;

impl Answer<'_> {
    /// The whole body; one allocation.
    pub(crate) fn json(&self, id: &Id) -> Vec<u8> {
        let per_choice = words_capacity(self.tokens).saturating_add(400);
        let choices = usize::try_from(self.choices).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(per_choice.saturating_mul(choices).saturating_add(640));
        let (id, created, model) = (id.as_str(), self.created, self.model);
        put!(
            out,
            r#"{{"id":"chatcmpl-{id}","object":"chat.completion","created":{created},"model":{model},"choices":["#
        );
        for index in 0..self.choices {
            out.extend_from_slice(if index > 0 { b"," } else { b"" });
            self.choice(&mut out, index, id);
        }
        out.push(b']');
        if let Some(usage) = self.usage {
            out.extend_from_slice(br#","usage":"#);
            usage.append(&mut out);
        }
        put!(out, r#","service_tier":"{}","system_fingerprint":"fp_simulated"}}"#, self.service_tier);
        out
    }

    fn choice(&self, out: &mut Vec<u8>, index: u64, id: &str) {
        let (before, after) = frame(self.shape);
        put!(out, r#"{{"index":{index},"message":{{"role":"assistant","content":"#);
        match self.shape {
            Shape::Tool(name) => {
                put!(
                    out,
                    r#"null,"tool_calls":[{{"id":"call_{id}_{index}","type":"function","function":{{"name":{name},"arguments":"{before}"#
                );
                append_words(out, self.tokens);
                put!(out, r#"{after}"}}}}]"#);
            }
            Shape::Text | Shape::Json => {
                put!(out, r#""{before}"#);
                append_words(out, self.tokens);
                put!(out, r#"{after}""#);
            }
        }
        put!(out, r#","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{}"}}"#, self.finish_reason);
    }
}

impl Usage {
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        let Self { input, cached, output } = self;
        put!(
            out,
            r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
            input + output
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;
    use crate::ids::Ids;

    #[test]
    fn an_answer_is_well_formed_in_every_shape() {
        for shape in [Shape::Text, Shape::Json, Shape::Tool("\"f\"".into())] {
            let usage = Some(Usage { input: 3, cached: 1, output: 40 });
            let answer = Answer {
                model: "\"m\"",
                created: 1,
                choices: 2,
                tokens: 20,
                shape: &shape,
                finish_reason: "stop",
                service_tier: "default",
                usage,
            };
            let body = answer.json(&Ids::new().next());
            assert!(body.capacity() >= body.len());
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["usage"]["total_tokens"], 43);
            let message = &value["choices"][1]["message"];
            let text = match shape {
                Shape::Tool(_) => &message["tool_calls"][0]["function"]["arguments"],
                _ => &message["content"],
            };
            let text = text.as_str().unwrap();
            let words = match shape {
                Shape::Text => text.to_owned(),
                _ => serde_json::from_str::<serde_json::Value>(text).unwrap()["text"].as_str().unwrap().to_owned(),
            };
            assert_eq!(words.split(' ').count(), 20);
        }
    }
}
