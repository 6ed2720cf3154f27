//! A streamed message: its events in the order of the real API.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, signature, tool_id};
use crate::ids::Id;
use crate::stream::{Lane, Script, Segment};
use crate::text::{VOCABULARY, word};

const GARBAGE: Bytes = Bytes::from_static(b"event: content_block_delta\ndata: {\"type\":\"content_block_\n\n");
const FAILURE: Bytes = Bytes::from_static(
    b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
);
const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");

/// Lays out the events of an answer.
pub(crate) fn script(answer: &Answer<'_>, id: &Id) -> Script {
    let start = json!({"type": "message_start", "message": answer.envelope(id, answer.tokens.min(1), None)});
    let mut segments = vec![event("message_start", &start)];
    let mut index = 0;
    if let Some(thought) = answer.thought {
        let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
        open(&mut segments, index, &empty);
        segments.push(deltas(index, "thinking_delta", "thinking", thought, ["", ""]));
        let signed = json!({"type": "signature_delta", "signature": signature(id)});
        segments.push(delta(index, &signed));
        segments.push(close(index));
        index += 1;
    }
    let said = answer.said();
    match answer.tool {
        Some(name) => {
            let empty = json!({"type": "tool_use", "id": tool_id(id), "name": name, "input": {}});
            open(&mut segments, index, &empty);
            segments.push(delta(index, &json!({"type": "input_json_delta", "partial_json": ""})));
            let frame = [r#"{\"text\": \""#, r#"\"}"#];
            segments.push(deltas(index, "input_json_delta", "partial_json", said, frame));
            segments.push(close(index));
        }
        None if said > 0 => {
            open(&mut segments, index, &json!({"type": "text", "text": ""}));
            segments.push(deltas(index, "text_delta", "text", said, ["", ""]));
            segments.push(close(index));
        }
        None => {}
    }
    let mut end = json!({
        "type": "message_delta",
        "delta": {"stop_reason": answer.stop_reason, "stop_sequence": answer.stop_sequence},
    });
    if !answer.without_usage {
        end["usage"] = answer.usage.json(answer.tokens, answer.thought);
    }
    segments.push(event("message_delta", &end));
    segments.push(event("message_stop", &json!({"type": "message_stop"})));
    Script { segments, failure: FAILURE, garbage: GARBAGE }
}

fn event(name: &str, data: &Value) -> Segment {
    Segment::Event(Bytes::from(format!("event: {name}\ndata: {data}\n\n")))
}

/// The first block is followed by a ping.
fn open(segments: &mut Vec<Segment>, index: u64, block: &Value) {
    segments.push(event(
        "content_block_start",
        &json!({"type": "content_block_start", "index": index, "content_block": block}),
    ));
    if index == 0 {
        segments.push(Segment::Event(PING));
    }
}

fn close(index: u64) -> Segment {
    event("content_block_stop", &json!({"type": "content_block_stop", "index": index}))
}

fn delta(index: u64, delta: &Value) -> Segment {
    event("content_block_delta", &json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

/// One event per word; `before` and `after` are escaped for a JSON string.
fn deltas(index: u64, kind: &str, field: &str, tokens: u64, [before, after]: [&str; 2]) -> Segment {
    let piece = |before: &str, word: &str, after: &str| {
        let mut text = String::with_capacity(160);
        let _ = write!(
            text,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{kind}\",\"{field}\":\"{before}{word}{after}\"}}}}\n\n"
        );
        Bytes::from(text)
    };
    let lane = Lane {
        first: piece(before, word(0), if tokens == 1 { after } else { "" }),
        words: (0..tokens.min(VOCABULARY.len() as u64)).map(|nth| piece(" ", word(nth), "")).collect(),
        last: piece(" ", word(tokens.saturating_sub(1)), after),
    };
    Segment::Tokens { count: tokens, lanes: vec![lane] }
}
