//! The streamed answer: one event in, none, one or a few chunks out.

use super::super::json::{Object, Text};
use super::super::usage::{Dialect, Meter, Usage};
use super::super::wire::{Block, Delta, Event};
use super::super::{Envelope, TranslateError, errors};
use super::answer::named;
use super::finish_reason;

/// Translates the events of a message into the chunks of a chat completion. Its memory does not grow with the stream's length.
#[derive(Debug)]
pub struct Stream {
    /// What every chunk begins with, up to its choices; empty before the first event.
    start: String,
    id: Option<String>,
    model: Option<String>,
    created: i64,
    include_usage: bool,
    meter: Meter,
    /// Calls begun so far.
    calls: u32,
    /// Blocks of thinking begun so far.
    thoughts: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The reason of the end was told.
    Finished,
    Done,
}

impl Stream {
    /// A stream whose chunks call themselves so; with `include_usage`, the client wants the chunk with the usage.
    #[must_use]
    pub fn new(envelope: &Envelope<'_>, include_usage: bool) -> Self {
        Self {
            start: String::new(),
            id: envelope.id.map(str::to_owned),
            model: envelope.model.map(str::to_owned),
            created: envelope.created,
            include_usage,
            meter: Meter::new(Dialect::Messages),
            calls: 0,
            thoughts: 0,
            phase: Phase::Open,
        }
    }

    /// What the provider said so far that it used.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.meter.usage()
    }

    /// Whether the last chunk has been written. A stream of the provider's that ends before this was cut off.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Takes the data of one event, and appends whole server-sent events for the client.
    ///
    /// # Errors
    /// The data is not an event of a message; nothing was appended.
    pub fn event(&mut self, data: &[u8], out: &mut String) -> Result<(), TranslateError> {
        if self.phase == Phase::Done {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data)?;
        match event.kind.as_deref() {
            Some("content_block_delta") => self.delta(&event, out),
            Some("content_block_start") => {
                if let Some(block) = &event.content_block {
                    self.block(block, out);
                }
            }
            Some("message_start") => {
                self.meter.event(data);
                self.begin(&event);
                let empty = r#"{"role":"assistant","content":"","refusal":null}"#;
                self.chunk(out, |delta| delta.push_str(empty), None);
            }
            Some("message_delta") => {
                self.meter.event(data);
                self.stop(event.delta.as_ref(), out);
            }
            Some("message_stop") => self.end(out),
            Some("error") => {
                let error = errors::chat_from_messages(event.error);
                self.fail(&error, out);
            }
            // Pings, ends of blocks, and what comes to be: nothing that a chat completion has.
            Some(_) => {}
            None => return Err(TranslateError::invalid("type", "is missing, so this is no event")),
        }
        Ok(())
    }

    /// The provider's stream has ended. Writes what the client still waits for and answers whether the answer was whole; if it was
    /// not, the stream was cut off, and [`Stream::fail`] tells the client.
    pub fn finish(&mut self, out: &mut String) -> bool {
        if self.phase == Phase::Finished {
            self.end(out);
        }
        self.phase == Phase::Done
    }

    /// Ends the stream with an error of the client's dialect, `{"error":{…}}`.
    pub fn fail(&mut self, error: &str, out: &mut String) {
        if self.phase != Phase::Done {
            out.push_str("data: ");
            out.push_str(error);
            out.push_str("\n\ndata: [DONE]\n\n");
            self.phase = Phase::Done;
        }
    }

    fn begin(&mut self, event: &Event<'_>) {
        let message = event.message.as_ref();
        let (id, model) = (message.and_then(|message| message.id), message.and_then(|message| message.model));
        self.write_start(id, model);
    }

    fn write_start(&mut self, id: Option<Text<'_>>, model: Option<Text<'_>>) {
        let envelope = Envelope { id: self.id.as_deref(), model: self.model.as_deref(), created: self.created };
        self.start.clear();
        self.start.push_str("data: ");
        let mut object = Object::open(&mut self.start);
        named(&mut object, &envelope, id, model, "chat.completion.chunk");
        object.field("choices");
    }

    /// One chunk with one choice. With `include_usage`, every chunk but the last says that it has none.
    fn chunk(&mut self, out: &mut String, delta: impl FnOnce(&mut String), finish: Option<(&str, Option<Text<'_>>)>) {
        if self.start.is_empty() {
            self.write_start(None, None);
        }
        out.push_str(&self.start);
        out.push_str("[{\"index\":0,\"delta\":");
        delta(out);
        match finish {
            None => out.push_str(",\"logprobs\":null,\"finish_reason\":null"),
            Some((reason, sequence)) => {
                out.push_str(",\"logprobs\":null,\"finish_reason\":\"");
                out.push_str(reason);
                out.push('"');
                if let Some(sequence) = sequence {
                    out.push_str(",\"stop_reason\":");
                    out.push_str(sequence.literal());
                }
            }
        }
        out.push_str(if self.include_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" });
    }

    /// A chunk that adds one text.
    fn piece(&mut self, out: &mut String, field: &str, text: Text<'_>) {
        if !text.is_empty() {
            self.chunk(out, |delta| Object::open(delta).raw(field, text.literal()).end(), None);
        }
    }

    fn block(&mut self, block: &Block<'_>, out: &mut String) {
        match block.kind.as_deref() {
            Some("tool_use") => {
                let index = self.calls;
                self.calls += 1;
                // Arguments come in pieces; a server that has them at once may say them here.
                let input = block.input.map(|input| input.get()).filter(|input| *input != "{}");
                self.chunk(
                    out,
                    |delta| {
                        delta.push_str("{\"tool_calls\":[");
                        let mut call = Object::open(delta);
                        call.number("index", index).raw("id", block.id.unwrap_or(Text::EMPTY).literal());
                        call.raw("type", "\"function\"");
                        let mut function = Object::open(call.field("function"));
                        function.raw("name", block.name.unwrap_or(Text::EMPTY).literal());
                        function.string("arguments", input.unwrap_or_default()).end();
                        call.close();
                        delta.push_str("]}");
                    },
                    None,
                );
            }
            Some("text") => self.piece(out, "content", block.text.unwrap_or(Text::EMPTY)),
            Some("thinking") => {
                self.thoughts += 1;
                self.piece(out, "reasoning_content", block.thinking.unwrap_or(Text::EMPTY));
                if let Some(signature) = block.signature.filter(|signature| !signature.is_empty()) {
                    self.thought(out, "thinking", "signature", signature);
                }
            }
            Some("redacted_thinking") => {
                self.thoughts += 1;
                self.thought(out, "redacted_thinking", "data", block.data.unwrap_or(Text::EMPTY));
            }
            _ => {}
        }
    }

    /// What a client must send back with a thought.
    fn thought(&mut self, out: &mut String, kind: &str, field: &str, text: Text<'_>) {
        let index = self.thoughts.saturating_sub(1);
        self.chunk(
            out,
            |delta| {
                delta.push_str("{\"thinking_blocks\":[");
                Object::open(delta).number("index", index).string("type", kind).raw(field, text.literal()).end();
                delta.push_str("]}");
            },
            None,
        );
    }

    fn delta(&mut self, event: &Event<'_>, out: &mut String) {
        let Some(delta) = &event.delta else { return };
        match delta.kind.as_deref() {
            Some("text_delta") => self.piece(out, "content", delta.text.unwrap_or(Text::EMPTY)),
            Some("input_json_delta") => {
                let json = delta.partial_json.unwrap_or(Text::EMPTY);
                let Some(index) = self.calls.checked_sub(1).filter(|_| !json.is_empty()) else { return };
                self.chunk(
                    out,
                    |delta| {
                        delta.push_str("{\"tool_calls\":[");
                        let mut call = Object::open(delta);
                        call.number("index", index);
                        Object::open(call.field("function")).raw("arguments", json.literal()).end();
                        call.close();
                        delta.push_str("]}");
                    },
                    None,
                );
            }
            Some("thinking_delta") => self.piece(out, "reasoning_content", delta.thinking.unwrap_or(Text::EMPTY)),
            Some("signature_delta") => {
                self.thought(out, "thinking", "signature", delta.signature.unwrap_or(Text::EMPTY));
            }
            _ => {}
        }
    }

    fn stop(&mut self, delta: Option<&Delta<'_>>, out: &mut String) {
        let Some(reason) = delta.and_then(|delta| delta.stop_reason.as_deref()) else { return };
        if self.phase == Phase::Open {
            self.phase = Phase::Finished;
            let sequence = delta.and_then(|delta| delta.stop_sequence);
            self.chunk(out, |delta| delta.push_str("{}"), Some((finish_reason(reason), sequence)));
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.include_usage
            && let Some(usage) = self.meter.usage()
        {
            if self.start.is_empty() {
                self.write_start(None, None);
            }
            out.push_str(&self.start);
            out.push_str("[],\"usage\":");
            usage.write_chat(out);
            out.push_str("}\n\n");
        }
        out.push_str("data: [DONE]\n\n");
        self.phase = Phase::Done;
    }
}
