//! A streamed response: its events, each with its name and number.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use super::responses::{Answer, item_id, reasoning};
use crate::ids::Id;
use crate::stream::{Script, Segment};
use crate::text::word;

const GARBAGE: Bytes = Bytes::from_static(b"event: response.output_text.delta\ndata: {\"type\":\"response.\n\n");
const FAILURE: Bytes = Bytes::from_static(
    b"event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"The server had an error while processing your \
      request. Sorry about that!\",\"param\":null,\"sequence_number\":0}\n\n",
);

/// Counts the events, so that each can be given its number.
struct Layout {
    segments: Vec<Segment>,
    next: u64,
}

impl Layout {
    fn event(&mut self, name: &str, mut data: Value) {
        data["type"] = name.into();
        data["sequence_number"] = self.next.into();
        self.next += 1;
        self.segments.push(Segment::Event(Bytes::from(format!("event: {name}\ndata: {data}\n\n"))));
    }

    fn deltas(&mut self, name: &'static str, place: String, count: u64, [before, after]: [&'static str; 2]) {
        let start = self.next;
        self.next += count;
        let make = Box::new(move |nth: u64| {
            let opening = if nth == 0 { before } else { " " };
            let closing = if nth + 1 == count { after } else { "" };
            let mut text = String::with_capacity(240);
            let _ = write!(
                text,
                "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{},{place},\"delta\":\"{opening}{}{closing}\"}}\n\n",
                start + nth,
                word(nth)
            );
            Bytes::from(text)
        });
        self.segments.push(Segment::Made { count, tokens: 1, make });
    }
}

/// Lays out the events of an answer.
pub(crate) fn script(answer: &Answer<'_>, id: &Id) -> Script {
    let mut layout = Layout { segments: Vec::new(), next: 0 };
    for name in ["response.created", "response.in_progress"] {
        layout.event(name, json!({"response": answer.envelope(id, "in_progress")}));
    }
    let mut place = 0;
    if answer.reasoned.is_some() {
        for name in ["response.output_item.added", "response.output_item.done"] {
            layout.event(name, json!({"output_index": place, "item": reasoning(id)}));
        }
        place += 1;
    }
    match answer.tool {
        Some(_) => call(&mut layout, answer, id, place),
        None => message(&mut layout, answer, id, place),
    }
    let end = if answer.status() == "completed" { "response.completed" } else { "response.incomplete" };
    layout.event(end, json!({"response": answer.json(id)}));
    Script { segments: layout.segments, failure: FAILURE, garbage: GARBAGE }
}

fn message(layout: &mut Layout, answer: &Answer<'_>, id: &Id, place: u64) {
    let item = item_id(id, false);
    let mut empty = answer.item(id, "in_progress");
    empty["content"] = json!([]);
    layout.event("response.output_item.added", json!({"output_index": place, "item": empty}));
    let at = json!({"item_id": item, "output_index": place, "content_index": 0});
    let with = |name: &str, value: Value| {
        let mut data = at.clone();
        data[name] = value;
        data
    };
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    layout.event("response.content_part.added", with("part", part("")));
    let fields = format!("\"item_id\":\"{item}\",\"output_index\":{place},\"content_index\":0,\"logprobs\":[]");
    layout.deltas("response.output_text.delta", fields, answer.said(), ["", ""]);
    let text = answer.text();
    let mut done = with("text", text.as_str().into());
    done["logprobs"] = json!([]);
    layout.event("response.output_text.done", done);
    layout.event("response.content_part.done", with("part", part(&text)));
    let whole = answer.item(id, answer.status());
    layout.event("response.output_item.done", json!({"output_index": place, "item": whole}));
}

fn call(layout: &mut Layout, answer: &Answer<'_>, id: &Id, place: u64) {
    let item = item_id(id, true);
    let mut empty = answer.item(id, "in_progress");
    empty["arguments"] = "".into();
    layout.event("response.output_item.added", json!({"output_index": place, "item": empty}));
    let fields = format!("\"item_id\":\"{item}\",\"output_index\":{place}");
    layout.deltas("response.function_call_arguments.delta", fields, answer.said(), [r#"{\"text\":\""#, r#"\"}"#]);
    let done = json!({
        "item_id": item, "output_index": place, "name": answer.tool, "arguments": answer.arguments(),
    });
    layout.event("response.function_call_arguments.done", done);
    let whole = answer.item(id, "completed");
    layout.event("response.output_item.done", json!({"output_index": place, "item": whole}));
}
