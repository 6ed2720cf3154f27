//! Server-sent events of a streamed answer: passed on as they come or translated, and watched for what they used.

mod watch;

use bytes::{Bytes, BytesMut};

pub(crate) use watch::{Count, Watch};

use super::dialects::{TranslateError, anthropic_client, openai_client};

/// An event longer than this is not one; a picture is in one piece.
const MAX_EVENT: usize = 4 << 20;
const MAX_PICTURE: usize = 24 << 20;

/// Why a stream can't be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// An event did not end within the bound.
    #[error("an event of the provider's stream is longer than {0} bytes")]
    TooLong(usize),
    /// An event is not of the provider's dialect.
    #[error("an event of the provider's stream can't be translated: {0}")]
    NotTranslated(#[from] TranslateError),
}

/// What becomes of the events on their way to the client.
#[derive(Debug)]
pub(crate) enum Passage {
    /// They are passed on as they are; what carries the usage alone only if the client asked for it.
    AsTheyAre {
        /// The client asked for it.
        usage: bool,
    },
    /// They are no events but the bytes of a sound.
    Bytes,
    /// A message's events become a chat's chunks.
    ToChat(Box<openai_client::Stream>),
    /// A chat's chunks become a message's events.
    ToMessages(Box<anthropic_client::Stream>),
}

/// Cuts a stream into whole events and reads from them what the client's bill depends on.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Bytes of an event that is not complete yet.
    partial: BytesMut,
    passage: Passage,
    /// In bytes, of one event.
    longest: usize,
    pub(crate) watch: Watch,
}

impl Scanner {
    pub(crate) fn new(watch: Watch, passage: Passage) -> Self {
        let longest = if watch.of_pictures() { MAX_PICTURE } else { MAX_EVENT };
        Self { partial: BytesMut::new(), passage, longest, watch }
    }

    /// Takes the next bytes of the stream; answers what is for the client, in whole events.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<Bytes, Unreadable> {
        if matches!(self.passage, Passage::Bytes) {
            return Ok(bytes);
        }
        let bytes = if self.partial.is_empty() {
            bytes
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(&bytes);
            // What was looked at is not looked at again, but for an end that was cut in two.
            if event_length(&self.partial[before.saturating_sub(3)..]).is_none() {
                return self.bounded(Bytes::new());
            }
            self.partial.split().freeze()
        };
        let (passed, length) = match &mut self.passage {
            Passage::Bytes => (Bytes::new(), 0),
            Passage::AsTheyAre { usage } => match pass_on(&bytes, &mut self.watch, *usage) {
                (None, length) if length == bytes.len() => return Ok(bytes),
                (copied, length) => (copied.unwrap_or_else(|| bytes.slice(..length)), length),
            },
            Passage::ToChat(stream) => translate(&bytes, &mut self.watch, |data, out| stream.event(data, out))?,
            Passage::ToMessages(stream) => translate(&bytes, &mut self.watch, |data, out| stream.event(data, out))?,
        };
        if length < bytes.len() {
            self.partial.extend_from_slice(&bytes[length..]);
        }
        self.bounded(passed)
    }

    fn bounded(&self, passed: Bytes) -> Result<Bytes, Unreadable> {
        if self.partial.len() > self.longest { Err(Unreadable::TooLong(self.longest)) } else { Ok(passed) }
    }

    /// The provider's stream has ended: what the client of a translated one still waits for.
    pub(crate) fn finish(&mut self) -> Bytes {
        let mut out = String::new();
        let whole = match &mut self.passage {
            Passage::AsTheyAre { .. } => false,
            // A sound has no last word: what ends well is whole.
            Passage::Bytes => true,
            Passage::ToChat(stream) => stream.finish(&mut out),
            Passage::ToMessages(stream) => stream.finish(&mut out),
        };
        self.watch.done |= whole && !self.watch.failed;
        out.into()
    }
}

/// Reads whole events; answers those for the client, if there are others between them, and how many bytes all of them were. Only the
/// usage alone is not for a client that did not ask for it.
fn pass_on(bytes: &[u8], watch: &mut Watch, with_usage: bool) -> (Option<Bytes>, usize) {
    let (mut copied, mut copied_to) = (None::<BytesMut>, 0);
    let mut start = 0;
    while let Some(len) = event_length(&bytes[start..]) {
        let event = &bytes[start..start + len];
        let only_usage = line_of(event, b"data:").is_some_and(|data| watch.see(|| line_of(event, b"event:"), data));
        if only_usage && !with_usage {
            copied.get_or_insert_default().extend_from_slice(&bytes[copied_to..start]);
            copied_to = start + len;
        }
        start += len;
    }
    let copied = copied.map(|mut copied| {
        copied.extend_from_slice(&bytes[copied_to..start]);
        copied.freeze()
    });
    (copied, start)
}

/// Whole events in the client's dialect, and how many bytes they were.
fn translate(
    bytes: &[u8],
    watch: &mut Watch,
    mut event: impl FnMut(&[u8], &mut String) -> Result<(), TranslateError>,
) -> Result<(Bytes, usize), Unreadable> {
    let (mut out, mut start) = (String::with_capacity(2 * bytes.len()), 0);
    while let Some(len) = event_length(&bytes[start..]) {
        let read = &bytes[start..start + len];
        if let Some(data) = line_of(read, b"data:") {
            watch.see(|| line_of(read, b"event:"), data);
            event(data, &mut out)?;
        }
        start += len;
    }
    Ok((out.into(), start))
}

/// The length of the first event with the blank line that ends it, if it is complete.
fn event_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// What the first line of this name says. The dialects have one `data:` line in an event.
fn line_of<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = event;
    loop {
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        if let Some(said) = line.strip_prefix(name) {
            return Some(said.trim_ascii());
        }
        rest = &rest[end? + 1..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use weir_types::price::Tokens;

    use super::*;
    use crate::domain::api::Api;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n",
        ": a comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    fn scanner(usage: bool) -> Scanner {
        Scanner::new(Watch::new(Api::Chat), Passage::AsTheyAre { usage })
    }

    fn scan(pass_usage: bool, parts: &[&[u8]]) -> (Vec<u8>, Scanner) {
        let mut scanner = scanner(pass_usage);
        let passed =
            parts.iter().flat_map(|part| scanner.push(Bytes::copy_from_slice(part)).expect("short events")).collect();
        (passed, scanner)
    }

    #[test]
    fn the_usage_chunk_is_held_back_unless_the_client_asked() {
        let (passed, scanner) = scan(false, &[STREAM.as_bytes()]);
        assert_eq!(scanner.watch.count(), Count::Final(Tokens { input: 7, output: 2, ..Tokens::default() }));
        assert_eq!((scanner.watch.done, scanner.watch.failed), (true, false));
        let text = String::from_utf8(passed).expect("UTF-8");
        assert!(!text.contains("prompt_tokens") && text.contains("comment") && text.ends_with("data: [DONE]\n\n"));
        assert_eq!(scan(true, &[STREAM.as_bytes()]).0, STREAM.as_bytes());
    }

    #[test]
    fn a_chunk_with_usage_and_content_is_passed_on() {
        let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
        let (passed, scanner) = scan(false, &[event]);
        assert_eq!(passed, event);
        assert!(matches!(scanner.watch.count(), Count::Final(_)));
    }

    #[test]
    fn what_was_seen_of_a_stream_without_a_count_is_counted() {
        let (_, scanner) =
            scan(false, &[&STREAM.as_bytes()[..STREAM.find("data: {\"choices\":[],").expect("the usage")]]);
        assert_eq!(scanner.watch.count(), Count::Seen { begun: None, output: 2 });
    }

    #[test]
    fn an_error_inside_the_stream_is_seen() {
        let (_, scanner) = scan(false, &[b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n"]);
        assert!(scanner.watch.failed);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut scanner = scanner(false);
        let result =
            (0..=MAX_EVENT / 65_536).map(|_| scanner.push(Bytes::from(vec![b'x'; 65_536]))).find(Result::is_err);
        assert_eq!(result, Some(Err(Unreadable::TooLong(MAX_EVENT))));
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
            prop_assert_eq!(scanner.watch.count(), expected.watch.count());
        }
    }
}
