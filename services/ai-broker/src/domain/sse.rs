//! Server-sent events of a streamed answer: passed on as they come, watched for what they used.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use weir_types::price::Tokens;

use super::usage::Usage;

/// An event longer than this is not one.
const MAX_EVENT: usize = 4 << 20;

/// An event did not end within the bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the provider's stream is longer than {MAX_EVENT} bytes")]
pub(crate) struct EventTooLong;

/// Cuts a stream into whole events and reads from them what the client's bill depends on.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Bytes of an event that is not complete yet.
    partial: BytesMut,
    /// The client asked for the usage chunk; otherwise it is held back.
    pass_usage: bool,
    /// The provider's own count, once it came.
    pub(crate) tokens: Option<Tokens>,
    /// Events that carried content: at one token each, the best count there is of a stream that broke off.
    pub(crate) content_events: i64,
    /// `[DONE]` came.
    pub(crate) done: bool,
    /// The provider reported an error inside the stream.
    pub(crate) failed: bool,
}

impl Scanner {
    pub(crate) fn new(pass_usage: bool) -> Self {
        Self { partial: BytesMut::new(), pass_usage, tokens: None, content_events: 0, done: false, failed: false }
    }

    /// Takes the next bytes of the stream; answers the whole events that are for the client.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<Bytes, EventTooLong> {
        let bytes = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(&bytes);
            self.partial.split().freeze()
        };
        let mut passed = Passed::new(&bytes);
        let mut start = 0;
        while let Some(len) = event_length(&bytes[start..]) {
            if self.read(&bytes[start..start + len]) {
                passed.keep(start + len);
            } else {
                passed.skip(start, start + len);
            }
            start += len;
        }
        if start < bytes.len() {
            self.partial.extend_from_slice(&bytes[start..]);
        }
        if self.partial.len() > MAX_EVENT { Err(EventTooLong) } else { Ok(passed.finish()) }
    }

    /// Reads one event; answers whether the client gets it.
    fn read(&mut self, event: &[u8]) -> bool {
        let Some(data) = data_of(event) else { return true };
        if data == b"[DONE]" {
            self.done = true;
            return true;
        }
        if memmem::find(data, b"\"usage\":").is_some() && self.read_usage(data) && !self.pass_usage {
            return false;
        }
        if has_content(data) {
            self.content_events += 1;
        } else if data.starts_with(b"{\"error\":") {
            self.failed = true;
        }
        true
    }

    /// Reads the usage of an event that may have one; answers whether it carries nothing else.
    fn read_usage(&mut self, data: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Chunk {
            usage: Option<Usage>,
            #[serde(default)]
            choices: Vec<serde::de::IgnoredAny>,
        }
        match serde_json::from_slice::<Chunk>(data) {
            Ok(Chunk { usage: Some(usage), choices }) => {
                self.tokens = usage.tokens().or(self.tokens.take());
                choices.is_empty()
            }
            _ => false,
        }
    }
}

/// The parts of a buffer that are passed on: the buffer itself as long as nothing was held back.
struct Passed<'a> {
    bytes: &'a Bytes,
    kept: usize,
    copied: Option<BytesMut>,
    copied_to: usize,
}

impl<'a> Passed<'a> {
    fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, kept: 0, copied: None, copied_to: 0 }
    }

    fn keep(&mut self, end: usize) {
        self.kept = end;
    }

    fn skip(&mut self, start: usize, end: usize) {
        let copied = self.copied.get_or_insert_with(BytesMut::new);
        copied.extend_from_slice(&self.bytes[self.copied_to..start]);
        self.copied_to = end;
        self.kept = end;
    }

    fn finish(self) -> Bytes {
        match self.copied {
            None => self.bytes.slice(..self.kept),
            Some(mut copied) => {
                copied.extend_from_slice(&self.bytes[self.copied_to..self.kept]);
                copied.freeze()
            }
        }
    }
}

/// The length of the first event with the blank line that ends it, if it is complete.
fn event_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The data of an event with one `data:` line, which is all that OpenAI's dialect has.
fn data_of(event: &[u8]) -> Option<&[u8]> {
    let line = event.split(|&b| b == b'\n').find(|line| line.starts_with(b"data:"))?;
    Some(line[b"data:".len()..].trim_ascii())
}

/// Whether an event carries a part of an answer: text, a refusal, reasoning or a tool call.
fn has_content(data: &[u8]) -> bool {
    let non_empty = |name: &[u8]| {
        memmem::find(data, name)
            .is_some_and(|at| matches!(data[at + name.len()..].trim_ascii_start(), [b'"', next, ..] if *next != b'"'))
    };
    non_empty(b"\"content\":")
        || non_empty(b"\"arguments\":")
        || non_empty(b"\"reasoning_content\":")
        || non_empty(b"\"refusal\":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n",
        ": a comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    fn scan(pass_usage: bool, parts: &[&[u8]]) -> (Vec<u8>, Scanner) {
        let mut scanner = Scanner::new(pass_usage);
        let passed =
            parts.iter().flat_map(|part| scanner.push(Bytes::copy_from_slice(part)).expect("short events")).collect();
        (passed, scanner)
    }

    #[test]
    fn the_usage_chunk_is_held_back_unless_the_client_asked() {
        let (passed, scanner) = scan(false, &[STREAM.as_bytes()]);
        assert_eq!(scanner.tokens, Some(Tokens { input: 7, cached_input: 0, output: 2 }));
        assert_eq!((scanner.content_events, scanner.done, scanner.failed), (2, true, false));
        let text = String::from_utf8(passed).expect("UTF-8");
        assert!(!text.contains("prompt_tokens") && text.contains("comment") && text.ends_with("data: [DONE]\n\n"));
        assert_eq!(scan(true, &[STREAM.as_bytes()]).0, STREAM.as_bytes());
    }

    #[test]
    fn a_chunk_with_usage_and_content_is_passed_on() {
        let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
        let (passed, scanner) = scan(false, &[event]);
        assert_eq!(passed, event);
        assert!(scanner.tokens.is_some());
    }

    #[test]
    fn an_error_inside_the_stream_is_seen() {
        let (_, scanner) = scan(false, &[b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n"]);
        assert!(scanner.failed);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut scanner = Scanner::new(false);
        let result =
            (0..=MAX_EVENT / 65_536).map(|_| scanner.push(Bytes::from(vec![b'x'; 65_536]))).find(Result::is_err);
        assert_eq!(result, Some(Err(EventTooLong)));
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_makes_no_difference(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &STREAM.as_bytes()[w[0]..w[1]]).collect();
            let (whole, expected) = scan(false, &[STREAM.as_bytes()]);
            let (passed, scanner) = scan(false, &parts);
            prop_assert_eq!(passed, whole);
            prop_assert_eq!(scanner.tokens, expected.tokens);
            prop_assert_eq!(scanner.content_events, expected.content_events);
        }
    }
}
