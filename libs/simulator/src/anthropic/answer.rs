//! A message that is sent in one piece.

use serde_json::{Value, json};

use super::cache::Cached;
use crate::ids::Id;
use crate::text::append_words;

/// What an answer says.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) model: &'a str,
    /// All output.
    pub(crate) tokens: u64,
    /// Of those, what is thought; nothing if thinking is off.
    pub(crate) thought: Option<u64>,
    pub(crate) tool: Option<&'a str>,
    pub(crate) stop_reason: &'static str,
    pub(crate) stop_sequence: Option<&'a str>,
    pub(crate) usage: Usage,
    /// The answer shall not say what it used.
    pub(crate) without_usage: bool,
}

/// What an answer says it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// All input, cached or not.
    pub(crate) input: u64,
    pub(crate) cached: Cached,
    pub(crate) service_tier: &'static str,
}

impl Usage {
    pub(crate) fn json(self, output: u64, thought: Option<u64>) -> Value {
        let Cached { read, write_short, write_long } = self.cached;
        let mut usage = json!({
            "input_tokens": self.input - read - write_short - write_long,
            "cache_creation_input_tokens": write_short + write_long,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": write_short,
                "ephemeral_1h_input_tokens": write_long,
            },
            "output_tokens": output,
            "service_tier": self.service_tier,
        });
        if let Some(thought) = thought {
            usage["output_tokens_details"] = json!({"thinking_tokens": thought});
        }
        usage
    }
}

impl Answer<'_> {
    pub(crate) fn said(&self) -> u64 {
        self.tokens - self.thought.unwrap_or(0)
    }

    pub(crate) fn json(&self, id: &Id) -> Value {
        let mut content = Vec::new();
        if let Some(thought) = self.thought {
            content.push(json!({"type": "thinking", "thinking": words(thought), "signature": signature(id)}));
        }
        let said = self.said();
        match self.tool {
            Some(name) => {
                let input = if said == 0 { json!({}) } else { json!({"text": words(said)}) };
                content.push(json!({"type": "tool_use", "id": tool_id(id), "name": name, "input": input}));
            }
            None if said > 0 => content.push(json!({"type": "text", "text": words(said)})),
            None => {}
        }
        let mut message = self.envelope(id, self.tokens, self.thought);
        message["content"] = Value::Array(content);
        message["stop_reason"] = self.stop_reason.into();
        message["stop_sequence"] = self.stop_sequence.into();
        if self.without_usage
            && let Some(fields) = message.as_object_mut()
        {
            fields.remove("usage");
        }
        message
    }

    /// The message before anything is said.
    pub(crate) fn envelope(&self, id: &Id, output: u64, thought: Option<u64>) -> Value {
        json!({
            "id": format!("msg_{}", id.as_str()),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": self.usage.json(output, thought),
        })
    }
}

fn words(tokens: u64) -> String {
    let mut out = Vec::new();
    append_words(&mut out, tokens);
    String::from_utf8(out).unwrap_or_default()
}

pub(crate) fn tool_id(id: &Id) -> String {
    format!("toolu_{}", id.as_str())
}

/// Opaque, as the real one is to everybody but the provider.
pub(crate) fn signature(id: &Id) -> String {
    format!("c2ltdWxhdGVk{}", id.as_str())
}
