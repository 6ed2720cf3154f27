//! The streamed answer: one chunk in, none, one or a few events out.

use super::super::json::{Object, Text};
use super::super::usage::{Dialect, Meter, Usage};
use super::super::wire::{ChatAnswer, ChatMessage, Choice, ToolCall};
use super::super::{Envelope, TranslateError, errors};
use super::alike::Alike;
use super::answer::{named, thought};
use super::stop_reason;

/// The most calls of one answer: their places must be remembered, and memory is bounded.
const MOST_CALLS: usize = 1_024;

/// Translates the chunks of a chat completion into the events of a message. Its memory does not grow with the stream's length.
#[derive(Debug)]
pub struct Stream {
    id: Option<String>,
    model: Option<String>,
    meter: Meter,
    open: Option<Kind>,
    /// Blocks begun so far.
    blocks: u32,
    /// The chunks' number of each call, and its block.
    calls: Vec<(u32, u32)>,
    phase: Phase,
    reason: &'static str,
    /// The stop sequence that was met, as JSON.
    sequence: Option<String>,
    refused: bool,
    /// The last chunk that was text alone.
    like: Option<Alike>,
}

const EMPTY_TEXT: &str = r#"{"type":"text","text":""}"#;

/// The kind of the block that is open; it is the last one begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Tool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Open,
    /// The reason of the end was told.
    Finished,
    Done,
}

impl Stream {
    /// A stream whose message calls itself so.
    #[must_use]
    pub fn new(envelope: &Envelope<'_>) -> Self {
        Self {
            id: envelope.id.map(str::to_owned),
            model: envelope.model.map(str::to_owned),
            meter: Meter::new(Dialect::Chat),
            open: None,
            blocks: 0,
            calls: Vec::new(),
            phase: Phase::Before,
            reason: "end_turn",
            sequence: None,
            refused: false,
            like: None,
        }
    }

    /// What the provider said so far that it used.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.meter.usage()
    }

    /// Whether the last event has been written. A stream of the provider's that ends before this was cut off.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Takes the data of one event, `[DONE]` included, and appends whole server-sent events for the client.
    ///
    /// # Errors
    /// The data is not a chunk of a chat completion, or there are more calls than any answer has; nothing was appended.
    pub fn event(&mut self, data: &[u8], out: &mut String) -> Result<(), TranslateError> {
        if self.phase == Phase::Done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.end(out);
            return Ok(());
        }
        if let Some(text) = self.like.as_ref().and_then(|like| like.text(data)) {
            self.enter(Kind::Text, EMPTY_TEXT, out);
            self.piece("text_delta", "text", text, out);
            return Ok(());
        }
        let chunk: ChatAnswer<'_> = serde_json::from_slice(data)?;
        if chunk.error.is_some() {
            let error = errors::messages_from_chat(chunk.error);
            self.fail(&error, out);
            return Ok(());
        }
        let Some(choices) = chunk.choices.as_deref() else {
            return Err(TranslateError::invalid("choices", "are missing, so this is no chunk"));
        };
        let choice = choices.iter().find(|choice| choice.index.unwrap_or(0) == 0);
        let new = choice
            .and_then(|choice| choice.delta.as_ref())
            .map_or(0, |delta| delta.tool_calls.iter().flatten().count());
        if self.calls.len() + new > MOST_CALLS {
            return Err(TranslateError::invalid("choices[0].delta.tool_calls", "are more than any answer has"));
        }
        if chunk.usage.is_some() {
            self.meter.event(data);
        }
        self.like = Alike::to(&chunk, data).or(self.like.take());
        if self.phase == Phase::Before {
            self.begin(chunk.id, chunk.model, out);
        }
        if let Some(choice) = choice {
            self.choice(choice, out);
        }
        Ok(())
    }

    /// The provider's stream has ended. Writes what the client still waits for and answers whether the answer was whole (some
    /// servers leave out `[DONE]`); if it was not, the stream was cut off, and [`Stream::fail`] tells the client.
    pub fn finish(&mut self, out: &mut String) -> bool {
        if self.phase == Phase::Finished {
            self.end(out);
        }
        self.phase == Phase::Done
    }

    /// Ends the stream with an error of the client's dialect, `{"type":"error","error":{…}}`.
    pub fn fail(&mut self, error: &str, out: &mut String) {
        if self.phase != Phase::Done {
            write(out, "error", |data| data.push_str(error));
            self.phase = Phase::Done;
        }
    }

    fn begin(&mut self, id: Option<Text<'_>>, model: Option<Text<'_>>, out: &mut String) {
        self.phase = Phase::Open;
        let envelope = Envelope { id: self.id.as_deref(), model: self.model.as_deref(), created: 0 };
        let usage = self.meter.usage().unwrap_or_default();
        write(out, "message_start", |data| {
            let mut event = Object::open(data);
            event.raw("type", "\"message_start\"");
            let mut message = Object::open(event.field("message"));
            named(&mut message, &envelope, id, model);
            message.raw("content", "[]").raw("stop_reason", "null").raw("stop_sequence", "null");
            usage.write_messages(message.field("usage"));
            message.close();
            event.close();
        });
    }

    fn choice(&mut self, choice: &Choice<'_>, out: &mut String) {
        if let Some(delta) = &choice.delta {
            self.delta(delta, out);
        }
        if let Some(sequence) = choice.stop_reason.and_then(Text::of) {
            self.sequence = Some(sequence.literal().to_owned());
        }
        if let Some(finish) = choice.finish_reason.as_deref() {
            let finish = if self.refused { "content_filter" } else { finish };
            self.phase = Phase::Finished;
            self.reason = stop_reason(Some(finish), !self.calls.is_empty(), self.sequence.is_some());
        }
    }

    fn delta(&mut self, delta: &ChatMessage<'_>, out: &mut String) {
        if let Some(thinking) = thought(delta) {
            self.enter(Kind::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#, out);
            self.piece("thinking_delta", "thinking", thinking, out);
        }
        for block in delta.thinking_blocks.iter().flatten() {
            if let Some(data) = block.data {
                self.close(out);
                let mut whole = String::with_capacity(data.literal().len() + 48);
                Object::open(&mut whole).raw("type", "\"redacted_thinking\"").raw("data", data.literal()).end();
                self.begin_block(Kind::Thinking, &whole, out);
                self.close(out);
            } else if let Some(signature) = block.signature {
                self.enter(Kind::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#, out);
                self.piece("signature_delta", "signature", signature, out);
                self.close(out);
            }
        }
        let refusal = delta.refusal.filter(|refusal| !refusal.is_empty());
        self.refused |= refusal.is_some();
        for text in [delta.content.and_then(Text::of), refusal].into_iter().flatten() {
            if !text.is_empty() {
                self.enter(Kind::Text, EMPTY_TEXT, out);
                self.piece("text_delta", "text", text, out);
            }
        }
        for call in delta.tool_calls.iter().flatten() {
            self.call(call, out);
        }
    }

    /// A new number begins a call; pieces of an earlier one go to its own block, though it was closed: clients add by number.
    fn call(&mut self, call: &ToolCall<'_>, out: &mut String) {
        let number = call.index.unwrap_or(0);
        let function = call.function.as_ref();
        let known = self.calls.iter().find(|(known, _)| *known == number).map(|&(_, block)| block);
        let block = known.unwrap_or_else(|| {
            self.close(out);
            self.calls.push((number, self.blocks));
            let mut whole = String::with_capacity(128);
            let mut object = Object::open(&mut whole);
            object.raw("type", "\"tool_use\"").raw("id", call.id.unwrap_or(Text::EMPTY).literal());
            let name = function.and_then(|function| function.name).unwrap_or(Text::EMPTY);
            object.raw("name", name.literal()).raw("input", "{}").end();
            self.begin_block(Kind::Tool, &whole, out);
            self.blocks - 1
        });
        let arguments = function.and_then(|function| function.arguments).filter(|arguments| !arguments.is_empty());
        if let Some(arguments) = arguments {
            added(block, "input_json_delta", "partial_json", arguments, out);
        }
    }

    /// Makes sure that a block of this kind is open.
    fn enter(&mut self, kind: Kind, empty: &str, out: &mut String) {
        if self.open != Some(kind) {
            self.close(out);
            self.begin_block(kind, empty, out);
        }
    }

    fn begin_block(&mut self, kind: Kind, block: &str, out: &mut String) {
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some(kind);
        write(out, "content_block_start", |data| {
            let mut event = Object::open(data);
            event.raw("type", "\"content_block_start\"").number("index", index).raw("content_block", block);
            event.close();
        });
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            let index = self.blocks - 1;
            write(out, "content_block_stop", |data| {
                Object::open(data).raw("type", "\"content_block_stop\"").number("index", index).end();
            });
        }
    }

    /// A piece of the open block.
    fn piece(&self, kind: &str, field: &str, text: Text<'_>, out: &mut String) {
        added(self.blocks.saturating_sub(1), kind, field, text, out);
    }

    fn end(&mut self, out: &mut String) {
        if self.phase == Phase::Before {
            self.begin(None, None, out);
        }
        self.close(out);
        let usage = self.meter.usage().unwrap_or_default();
        let (reason, sequence) = (self.reason, self.sequence.as_deref().filter(|_| self.reason == "stop_sequence"));
        write(out, "message_delta", |data| {
            let mut event = Object::open(data);
            event.raw("type", "\"message_delta\"");
            let mut delta = Object::open(event.field("delta"));
            delta.string("stop_reason", reason).raw("stop_sequence", sequence.unwrap_or("null")).end();
            usage.write_messages(event.field("usage"));
            event.close();
        });
        write(out, "message_stop", |data| data.push_str("{\"type\":\"message_stop\"}"));
        self.phase = Phase::Done;
    }
}

/// One server-sent event.
fn write(out: &mut String, name: &str, data: impl FnOnce(&mut String)) {
    out.push_str("event: ");
    out.push_str(name);
    out.push_str("\ndata: ");
    data(out);
    out.push_str("\n\n");
}

/// What a block is added.
fn added(index: u32, kind: &str, field: &str, text: Text<'_>, out: &mut String) {
    write(out, "content_block_delta", |data| {
        let mut event = Object::open(data);
        event.raw("type", "\"content_block_delta\"").number("index", index);
        let mut delta = Object::open(event.field("delta"));
        delta.string("type", kind).raw(field, text.literal()).end();
        event.close();
    });
}
