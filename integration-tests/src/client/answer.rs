//! What a client sees of an answer.

use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;

/// How a request ended, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The whole answer came.
    Complete,
    /// An HTTP error; the start of its body.
    Refused(String),
    /// The connection could not be opened: the server has never seen the request.
    Unreachable(String),
    /// The answer broke off, or came in an unreadable form.
    Broken(String),
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Observed {
    /// 0 if there was none.
    pub status: u16,
    /// From the request to the head of the answer, or of a stream, to its first event.
    pub first_byte: Duration,
    /// From the request to the end.
    pub total: Duration,
    /// Input and output tokens, if the answer says them.
    pub usage: Option<(i64, i64)>,
    /// Events with choices.
    pub chunks: u64,
    /// How it ended.
    pub ending: Ending,
    /// When the server says to try again.
    pub retry_after: Option<Duration>,
}

impl Observed {
    /// The status and what stands in the error, without the numbers that differ between requests.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = match &self.ending {
            Ending::Complete => "complete",
            Ending::Refused(text) | Ending::Unreachable(text) | Ending::Broken(text) => text,
        };
        let text: String = text.chars().filter(|letter| !letter.is_ascii_digit()).take(200).collect();
        format!("{} {text}", self.status)
    }
}

#[derive(Deserialize)]
struct WithUsage {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: i64,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: i64,
}

/// The usage in a JSON body or event.
pub(super) fn usage(json: &[u8]) -> Result<Option<(i64, i64)>, serde_json::Error> {
    let body: WithUsage = serde_json::from_slice(json)?;
    Ok(body.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)))
}

/// Reads server-sent events as they come.
#[derive(Debug, Default)]
pub(super) struct Events {
    held: Vec<u8>,
    pub(super) chunks: u64,
    pub(super) usage: Option<(i64, i64)>,
    pub(super) done: bool,
    pub(super) problem: Option<String>,
}

impl Events {
    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        // Most reads hold whole events: only a torn one is kept and copied.
        if self.held.is_empty() {
            let rest = self.read(bytes);
            self.held.extend_from_slice(&bytes[rest..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let rest = self.read(&held);
            held.drain(..rest);
            self.held = held;
        }
    }

    /// Reads all whole events; answers where the rest begins.
    fn read(&mut self, bytes: &[u8]) -> usize {
        let mut start = 0;
        for end in memmem::find_iter(bytes, b"\n\n") {
            if end < start {
                continue;
            }
            // Anthropic's events have a name before.
            let event = &bytes[start..end];
            let data = memmem::find(event, b"data: ").filter(|at| *at == 0 || event[at - 1] == b'\n');
            if let Some(at) = data {
                self.event(&event[at + b"data: ".len()..]);
            }
            start = end + 2;
        }
        start
    }

    fn event(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.done = true;
        } else if memmem::find(data, b"\"choices\":[{").is_some() {
            self.chunks += 1;
        } else if memmem::find(data, b"\"type\":\"message_stop\"").is_some() {
            self.done = true;
        } else if data.starts_with(b"{\"error\"") {
            self.problem = Some(String::from_utf8_lossy(data).into_owned());
        } else {
            match usage(data) {
                Ok(usage) => self.usage = usage.or(self.usage),
                Err(error) => self.problem = Some(format!("an event cannot be read: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_the_stream_is_torn() {
        let text = "data: {\"choices\":[{\"index\":0}]}\n\ndata: {\"choices\":[{\"index\":0}],\"usage\":null}\n\n\
                    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
        for size in [1, 2, 3, 7, 50, text.len()] {
            let mut events = Events::default();
            for piece in text.as_bytes().chunks(size) {
                events.push(&Bytes::copy_from_slice(piece));
            }
            assert_eq!((events.chunks, events.usage, events.done, events.problem), (2, Some((7, 2)), true, None));
        }
    }
}
