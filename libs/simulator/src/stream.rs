//! A streamed answer: its events are laid out once in one piece of memory, and each chunk is a slice of it.

use std::io::Write;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::body::Broken;
use crate::books::Entry;
use crate::completion::{Answer, frame, put};
use crate::connection::Link;
use crate::directive::Break;
use crate::headers::Id;
use crate::prompt::Shape;
use crate::text::{VOCABULARY, word};

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
const GARBAGE: Bytes = Bytes::from_static(b"data: {\"id\":\"chatcmpl-\n\n");
const FAILURE: Bytes = Bytes::from_static(
    b"data: {\"error\":{\"message\":\"The server had an error while processing your request. Sorry about that!\",\
      \"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
);

/// The events of one choice.
struct Events {
    role: Bytes,
    first: Bytes,
    /// By place in [`VOCABULARY`], as far as the answer needs them.
    words: Vec<Bytes>,
    last: Bytes,
    finish: Bytes,
}

/// All that a stream will say.
pub(crate) struct Script {
    choices: Vec<Events>,
    usage: Option<Bytes>,
    /// Of one choice.
    tokens: u64,
}

/// How a stream is sent.
pub(crate) struct Pace {
    /// Between two tokens.
    pub(crate) interval: Duration,
    /// Without an interval: may one write carry several tokens?
    pub(crate) coalesce: bool,
    pub(crate) break_after: Option<(u64, Break)>,
}

/// A stream under way.
pub(crate) struct Stream {
    choices: Vec<Events>,
    usage: Option<Bytes>,
    /// Of one choice.
    tokens: u64,
    step: u64,
    sent: u64,
    pace: Pace,
    start: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    over: bool,
    reset: bool,
    entry: Entry,
    link: Arc<Link>,
}

/// What comes next.
enum Step {
    Event(Bytes),
    Token(Bytes),
    End,
}

impl Stream {
    /// Lays out the events of an answer.
    pub(crate) fn layout(answer: &Answer<'_>, include_usage: bool, id: &Id) -> Script {
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
        let choices = ranges.into_iter().map(|ranges| Events {
            role: slice(ranges.role),
            first: slice(ranges.first),
            words: ranges.words.into_iter().map(slice).collect(),
            last: slice(ranges.last),
            finish: slice(ranges.finish),
        });
        Script { choices: choices.collect(), usage: usage.map(slice), tokens: answer.tokens }
    }

    /// Sends a script. With `reset`, the connection is reset when the head has been sent.
    pub(crate) fn new(script: Script, pace: Pace, entry: Entry, link: Arc<Link>, reset: bool) -> Self {
        let Script { choices, usage, tokens } = script;
        Self {
            choices,
            usage,
            tokens,
            step: 0,
            sent: 0,
            pace,
            start: Instant::now(),
            sleep: None,
            flushed: false,
            over: false,
            reset,
            entry,
            link,
        }
    }

    /// The next event, when it is due.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.reset {
            return self.break_connection(cx, true);
        }
        let (next, produces) = match self.next() {
            Step::Token(event) => (event, 1),
            Step::Event(event) => (event, 0),
            Step::End => {
                self.over = true;
                self.entry.finish();
                return Poll::Ready(None);
            }
        };
        let begun = self.step >= self.choices.len() as u64;
        if let Some((_, kind)) =
            self.pace.break_after.filter(|&(tokens, _)| begun && (self.sent >= tokens || produces == 0))
        {
            return self.break_off(kind, cx);
        }
        if produces > 0 && self.sent > 0 && self.wait(cx).is_pending() {
            return Poll::Pending;
        }
        self.step += 1;
        self.sent += produces;
        self.entry.produce(produces);
        Poll::Ready(Some(Ok(next)))
    }

    /// The event at the present step: roles, tokens in turn, finishes, usage, `[DONE]`.
    fn next(&self) -> Step {
        let choices = self.choices.len() as u64;
        let events = |nth: u64| &self.choices[usize::try_from(nth % choices).unwrap_or(0)];
        let mut step = self.step;
        if step < choices {
            return Step::Event(events(step).role.clone());
        }
        step -= choices;
        if step < choices * self.tokens {
            let (events, token) = (events(step), step / choices);
            return Step::Token(match token {
                0 => events.first.clone(),
                last if last + 1 == self.tokens => events.last.clone(),
                token => events.words[usize::try_from(token % VOCABULARY.len() as u64).unwrap_or(0)].clone(),
            });
        }
        step -= choices * self.tokens;
        if step < choices {
            return Step::Event(events(step).finish.clone());
        }
        match (step - choices, &self.usage) {
            (0, Some(usage)) => Step::Event(usage.clone()),
            (0, None) | (1, Some(_)) => Step::Event(DONE),
            _ => Step::End,
        }
    }

    /// Waits until the next token is due, or lets the one before be written by itself.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pace.interval.is_zero() {
            if self.pace.coalesce || std::mem::take(&mut self.flushed) {
                return Poll::Ready(());
            }
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Due times are counted from the start, so that late wake-ups do not add up.
        let nth = u32::try_from(self.sent / self.choices.len().max(1) as u64).unwrap_or(u32::MAX);
        let due = self.start + self.pace.interval.saturating_mul(nth);
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }

    fn break_off(&mut self, kind: Break, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match kind {
            Break::Hang => Poll::Pending,
            Break::Cut => self.break_connection(cx, false),
            Break::End => {
                self.over = true;
                Poll::Ready(None)
            }
            Break::Error => {
                self.over = true;
                Poll::Ready(Some(Ok(FAILURE)))
            }
            Break::Garbage => {
                self.pace.break_after = None;
                Poll::Ready(Some(Ok(GARBAGE)))
            }
        }
    }

    /// Lets hyper flush what it has, then breaks the connection.
    fn break_connection(&mut self, cx: &mut Context<'_>, reset: bool) -> Poll<Option<Result<Bytes, Broken>>> {
        if !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if reset {
            self.link.reset_on_close();
        }
        Poll::Ready(Some(Err(Broken)))
    }
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
            r#"data: {{"id":"chatcmpl-{id}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_simulated","#,
            answer.created,
            answer.model
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
