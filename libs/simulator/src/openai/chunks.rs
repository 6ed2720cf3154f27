//! A streamed chat answer: its events are laid out once in one piece of memory, and each chunk is a slice of it.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;

use super::completion::{Answer, frame, put};
use super::prompt::Shape;
use crate::ids::Id;
use crate::stream::{Lane, Script, Segment};
use crate::text::{VOCABULARY, word};

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
const GARBAGE: Bytes = Bytes::from_static(b"data: {\"id\":\"chatcmpl-\n\n");
const FAILURE: Bytes = Bytes::from_static(
    b"data: {\"error\":{\"message\":\"The server had an error while processing your request. Sorry about that!\",\
      \"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
);

/// Lays out the events of an answer: roles, tokens in turn, finishes, usage, `[DONE]`.
pub(crate) fn script(answer: &Answer<'_>, include_usage: bool, id: &Id) -> Script {
    let mut layout = Layout::new(answer, include_usage, id);
    let ranges: Vec<_> = (0..answer.choices).map(|index| layout.choice(index)).collect();
    let usage = answer.usage.filter(|_| include_usage).map(|usage| {
        let start = layout.out.len();
        layout.event_start();
        layout.out.extend_from_slice(br#""choices":[],"usage":"#);
        usage.append(&mut layout.out);
        layout.out.extend_from_slice(b"}\n\n");
        start..layout.out.len()
    });
    let all = Bytes::from(layout.out);
    let slice = |range: Range<usize>| all.slice(range);
    let mut segments: Vec<Segment> = ranges.iter().map(|choice| Segment::Event(slice(choice.role.clone()))).collect();
    let finishes: Vec<Segment> = ranges.iter().map(|choice| Segment::Event(slice(choice.finish.clone()))).collect();
    let lanes = ranges.into_iter().map(|choice| Lane {
        first: slice(choice.first),
        words: choice.words.into_iter().map(slice).collect(),
        last: slice(choice.last),
    });
    segments.push(Segment::Tokens { count: answer.tokens, lanes: lanes.collect() });
    segments.extend(finishes);
    segments.extend(usage.map(slice).map(Segment::Event));
    segments.push(Segment::Event(DONE));
    Script { segments, failure: FAILURE, garbage: GARBAGE }
}

struct Ranges {
    role: Range<usize>,
    first: Range<usize>,
    words: Vec<Range<usize>>,
    last: Range<usize>,
    finish: Range<usize>,
}

/// Writes the events one after another.
struct Layout<'a> {
    out: Vec<u8>,
    answer: &'a Answer<'a>,
    id: &'a str,
    start: Vec<u8>,
    /// With `include_usage`, every event but the last says `"usage":null`.
    end: &'static str,
}

impl<'a> Layout<'a> {
    fn new(answer: &'a Answer<'a>, include_usage: bool, id: &'a Id) -> Self {
        let id = id.as_str();
        let mut start = Vec::with_capacity(256);
        put!(
            start,
            r#"data: {{"id":"chatcmpl-{id}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"{}","system_fingerprint":"fp_simulated","#,
            answer.created,
            answer.model,
            answer.service_tier
        );
        let end = if include_usage { "],\"usage\":null}\n\n" } else { "]}\n\n" };
        let words = usize::try_from(answer.tokens.min(VOCABULARY.len() as u64)).unwrap_or(0);
        let choices = usize::try_from(answer.choices).unwrap_or(usize::MAX);
        let event = start.len() + 128;
        let out = Vec::with_capacity(choices.saturating_mul((words + 4) * event).saturating_add(2 * event + 256));
        Self { out, answer, id, start, end }
    }

    fn event_start(&mut self) {
        self.out.extend_from_slice(&self.start);
    }

    fn event(&mut self, index: u64, delta: impl FnOnce(&mut Vec<u8>), finish_reason: Option<&str>) -> Range<usize> {
        let start = self.out.len();
        self.event_start();
        put!(self.out, r#""choices":[{{"index":{index},"delta":{{"#);
        delta(&mut self.out);
        match finish_reason {
            Some(reason) => put!(self.out, r#"}},"logprobs":null,"finish_reason":"{reason}"}}"#),
            None => self.out.extend_from_slice(br#"},"logprobs":null,"finish_reason":null}"#),
        }
        self.out.extend_from_slice(self.end.as_bytes());
        start..self.out.len()
    }

    fn token(&mut self, index: u64, before: &str, word: &str, after: &str) -> Range<usize> {
        let tool = matches!(self.answer.shape, Shape::Tool(_));
        self.event(
            index,
            |out| {
                if tool {
                    put!(out, r#""tool_calls":[{{"index":0,"function":{{"arguments":"{before}{word}{after}"}}}}]"#);
                } else {
                    put!(out, r#""content":"{before}{word}{after}""#);
                }
            },
            None,
        )
    }

    fn choice(&mut self, index: u64) -> Ranges {
        let (tokens, id) = (self.answer.tokens, self.id);
        let (before, after) = frame(self.answer.shape);
        let shape = self.answer.shape;
        let role = self.event(
            index,
            |out| match shape {
                Shape::Tool(name) => put!(
                    out,
                    r#""role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"call_{id}_{index}","type":"function","function":{{"name":{name},"arguments":""}}}}],"refusal":null"#
                ),
                Shape::Text | Shape::Json => out.extend_from_slice(br#""role":"assistant","content":"","refusal":null"#),
            },
            None,
        );
        let first = self.token(index, before, word(0), if tokens == 1 { after } else { "" });
        let words = (0..tokens.min(VOCABULARY.len() as u64)).map(|nth| self.token(index, " ", word(nth), "")).collect();
        let last = self.token(index, " ", word(tokens.saturating_sub(1)), after);
        let finish = self.event(index, |_| (), Some(self.answer.finish_reason));
        Ranges { role, first, words, last, finish }
    }
}
