//! What the events of a stream say that the bill depends on.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use weir_types::price::Tokens;

use crate::domain::api::Api;
use crate::domain::dialects::usage::{Dialect, Meter, Tier, Usage};
use crate::domain::usage::estimated_tokens;

/// Watches a provider's events, told apart by the API that they are of.
#[derive(Debug)]
pub(crate) struct Watch {
    api: Api,
    meter: Option<Meter>,
    /// The provider's own count; whether it is final is another question.
    tokens: Option<Tokens>,
    is_final: bool,
    tier: Option<Tier>,
    /// Of sounds and pictures: what a plain answer would say of what it used.
    closing: Option<Vec<u8>>,
    /// Events that carried content, and the bytes of them.
    content_events: i64,
    content_bytes: i64,
    /// The last event came.
    pub(crate) done: bool,
    /// The provider reported an error inside the stream.
    pub(crate) failed: bool,
}

/// What is known of what a stream used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// The provider's own count.
    Final(Tokens),
    /// It did not come: the input if that was said, and the output as it was seen.
    Seen {
        /// What the provider said of the input.
        begun: Option<Tokens>,
        /// Tokens, as far as they can be told from outside.
        output: i64,
    },
}

impl Watch {
    pub(crate) fn new(api: Api) -> Self {
        let meter = match api {
            Api::Messages => Some(Meter::new(Dialect::Messages)),
            Api::Responses => Some(Meter::new(Dialect::Responses)),
            _ => None,
        };
        Self {
            api,
            meter,
            tokens: None,
            is_final: false,
            tier: None,
            closing: None,
            content_events: 0,
            content_bytes: 0,
            done: false,
            failed: false,
        }
    }

    /// Looks at one event's name, if it has one, and its data; answers whether it carries the usage and nothing else.
    pub(crate) fn see<'a>(&mut self, name: impl FnOnce() -> Option<&'a [u8]>, data: &'a [u8]) -> bool {
        let kind = || name().unwrap_or_else(|| kind(data));
        match self.api {
            Api::Messages => self.see_message(kind(), data),
            Api::Responses => self.see_response(kind(), data),
            Api::Transcriptions | Api::Images | Api::ImageEdits => self.see_media(kind(), data),
            _ => return self.see_chunk(data),
        }
        false
    }

    /// Whether an event holds a whole picture.
    pub(super) fn of_pictures(&self) -> bool {
        matches!(self.api, Api::Images | Api::ImageEdits)
    }

    /// What the stream used, as far as it was said.
    pub(crate) fn count(&self) -> Count {
        match self.tokens {
            Some(tokens) if self.is_final => Count::Final(tokens),
            begun => {
                // At OpenAI an event is a token; elsewhere it may be several, which their length tells.
                let by_length = if self.api == Api::Chat { 0 } else { estimated_tokens(self.content_bytes) };
                let said = begun.map_or(0, |tokens| tokens.output);
                Count::Seen { begun, output: self.content_events.max(by_length).max(said) }
            }
        }
    }

    /// At which of its prices the provider said that it serves the stream; none: it did not.
    pub(crate) fn tier(&self) -> Option<Tier> {
        self.tier.or_else(|| self.meter.as_ref()?.tier())
    }

    fn see_chunk(&mut self, data: &[u8]) -> bool {
        if data == b"[DONE]" {
            self.done = true;
            return false;
        }
        // It stands in all chunks or in none; the last one with the usage has the last word.
        if self.content_events == 0 && self.tier.is_none() && find!(data, b"\"service_tier\":").is_some() {
            self.tier = serde_json::from_slice::<Said<'_>>(data).ok().and_then(|said| said.service_tier).map(Tier::of);
        }
        let only_usage = may_have_usage(data) && self.read_usage(data);
        if chunk_has_content(data) {
            self.content_events += 1;
        } else if data.starts_with(b"{\"error\":") {
            self.failed = true;
        }
        only_usage
    }

    /// Reads the usage of a chunk that may have one; answers whether it carries nothing else.
    fn read_usage(&mut self, data: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            #[serde(borrow)]
            usage: Option<&'a RawValue>,
            #[serde(default)]
            choices: Vec<IgnoredAny>,
            #[serde(borrow)]
            service_tier: Option<&'a RawValue>,
        }
        let Ok(Chunk { usage: Some(usage), choices, service_tier }) = serde_json::from_slice::<Chunk<'_>>(data) else {
            return false;
        };
        if usage.get() == "null" {
            return false;
        }
        self.tier = service_tier.map(Tier::of).or(self.tier);
        let read = Usage::of(Dialect::Chat, usage.get().as_bytes());
        self.tokens = read.map(Tokens::from).or(self.tokens);
        self.is_final |= read.is_some();
        choices.is_empty()
    }

    fn see_message(&mut self, kind: &[u8], data: &[u8]) {
        match kind {
            b"content_block_delta" => {
                self.content_events += 1;
                self.content_bytes += content_length(data);
            }
            b"message_start" => self.read_meter(data),
            b"message_delta" => {
                self.read_meter(data);
                self.is_final = self.tokens.is_some();
            }
            b"message_stop" => self.done = true,
            b"error" => self.failed = true,
            _ => {}
        }
    }

    fn see_response(&mut self, kind: &[u8], data: &[u8]) {
        match kind {
            b"response.completed" | b"response.incomplete" => {
                self.read_meter(data);
                self.is_final = self.tokens.is_some();
                self.done = true;
            }
            b"response.failed" => {
                self.read_meter(data);
                self.is_final = self.tokens.is_some();
                self.failed = true;
            }
            b"error" => self.failed = true,
            kind if kind.ends_with(b".delta") => {
                self.content_events += 1;
                self.content_bytes += content_length(data);
            }
            _ => {}
        }
    }

    fn see_media(&mut self, kind: &[u8], data: &[u8]) {
        match kind {
            b"transcript.text.delta" => {
                self.content_events += 1;
                self.content_bytes += content_length(data);
            }
            b"transcript.text.done" | b"image_generation.completed" | b"image_edit.completed" => {
                let usage = serde_json::from_slice::<Closing<'_>>(data).ok().and_then(|closing| closing.usage);
                let usage = usage.map_or("null", RawValue::get);
                self.closing = Some(format!("{{\"data\":[0],\"usage\":{usage}}}").into_bytes());
                self.done = true;
            }
            b"error" => self.failed = true,
            _ if data.starts_with(b"{\"error\":") => self.failed = true,
            _ => {}
        }
    }

    /// What a plain answer with the sound or picture of this stream would say of what it used; none before its end.
    pub(crate) fn closing(&self) -> Option<&[u8]> {
        self.closing.as_deref()
    }

    fn read_meter(&mut self, data: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.event(data);
            self.tokens = meter.usage().map(Tokens::from).or(self.tokens);
        }
    }
}

/// The last event of a sound or picture.
#[derive(Deserialize)]
struct Closing<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// What a chunk says of its price.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

/// Looked for in every chunk: what finds them is made once.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\":"));
static CONTENT: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
    ["\"content\":", "\"arguments\":", "\"reasoning_content\":", "\"refusal\":"]
        .map(|name| Finder::new(name.as_bytes()))
});

static TEXT: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
    ["\"delta\":\"", "\"text\":\"", "\"partial_json\":\"", "\"thinking\":\""].map(|name| Finder::new(name.as_bytes()))
});

/// The bytes of the text that an event adds, without what is around it.
fn content_length(data: &[u8]) -> i64 {
    let text = TEXT.iter().find_map(|name| Some(&data[name.find(data)? + name.needle().len()..])).unwrap_or_default();
    let is_end = |at: &usize| *at == 0 || text[at - 1] != b'\\';
    let length = memchr::memchr_iter(b'"', text).find(is_end).unwrap_or(text.len());
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The value of the first `type`: what an event without a name of its own is called.
fn kind(data: &[u8]) -> &[u8] {
    let Some(at) = find!(data, b"\"type\"") else { return b"" };
    let rest = data[at + b"\"type\"".len()..].trim_ascii_start();
    let Some(value) = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start).and_then(|rest| rest.strip_prefix(b"\""))
    else {
        return b"";
    };
    &value[..memchr::memchr(b'"', value).unwrap_or(0)]
}

/// Whether it is worth while to read a chunk's usage: most say, where they were asked for it at the end, that they have none.
fn may_have_usage(data: &[u8]) -> bool {
    USAGE.find_iter(data).any(|at| !data[at + USAGE.needle().len()..].trim_ascii_start().starts_with(b"null"))
}

/// Whether a chunk carries a part of an answer: text, a refusal, reasoning or a tool call.
fn chunk_has_content(data: &[u8]) -> bool {
    CONTENT.iter().any(|name| {
        let value = name.find(data).map(|at| data[at + name.needle().len()..].trim_ascii_start());
        matches!(value, Some([b'"', next, ..]) if *next != b'"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = br#"{"type": "message_start","message":{"type":"message","usage":{"input_tokens":30,"cache_creation_input_tokens":5,"output_tokens":1}}}"#;
    const DELTA: &[u8] =
        br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"four tokens of text"}}"#;

    #[test]
    fn a_message_that_is_whole_has_the_providers_count() {
        let mut watch = Watch::new(Api::Messages);
        for data in [START, DELTA, br#"{"type":"ping"}"#] {
            assert!(!watch.see(|| None, data));
        }
        let begun = Tokens { input: 35, cache_write: 5, output: 1, ..Tokens::default() };
        assert_eq!(watch.count(), Count::Seen { begun: Some(begun), output: 5 });
        watch.see(
            || None,
            br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        );
        assert_eq!(watch.count(), Count::Final(Tokens { output: 9, ..begun }));
        assert!(!watch.done);
        watch.see(|| None, br#"{"type":"message_stop"}"#);
        assert!(watch.done && !watch.failed);
    }

    #[test]
    fn a_chunks_usage_is_found_behind_one_that_is_null() {
        let mut watch = Watch::new(Api::Chat);
        watch.see(|| None, br#"{"choices":[{"delta":{"content":"x","usage": null}}],"usage" : null}"#);
        assert_eq!(watch.count(), Count::Seen { begun: None, output: 1 });
        let last = br#"{"x":{"usage":null},"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        assert!(watch.see(|| None, last));
        assert_eq!(watch.count(), Count::Final(Tokens { input: 3, output: 1, ..Tokens::default() }));
    }

    #[test]
    fn a_response_says_its_count_at_its_end() {
        let mut watch = Watch::new(Api::Responses);
        watch.see(|| None, br#"{"type":"response.created","response":{"status":"in_progress","usage":null}}"#);
        watch.see(|| None, br#"{"type":"response.output_text.delta","delta":"hi"}"#);
        assert_eq!(watch.count(), Count::Seen { begun: None, output: 1 });
        watch.see(
            || Some(b"response.completed"),
            br#"{"response":{"usage":{"input_tokens":3,"output_tokens":1}},"type":"x"}"#,
        );
        assert_eq!(watch.count(), Count::Final(Tokens { input: 3, output: 1, ..Tokens::default() }));
        assert!(watch.done && !watch.failed);
    }

    #[test]
    fn sounds_and_pictures_say_at_their_end_what_they_used() {
        let mut watch = Watch::new(Api::Transcriptions);
        watch.see(|| None, br#"{"type":"transcript.text.delta","delta":"how"}"#);
        assert_eq!((watch.closing(), watch.count()), (None, Count::Seen { begun: None, output: 1 }));
        watch.see(|| None, br#"{"type":"transcript.text.done","text":"how","usage":{"type":"duration","seconds":3}}"#);
        let expected = br#"{"data":[0],"usage":{"type":"duration","seconds":3}}"#;
        assert!(watch.closing() == Some(&expected[..]) && watch.done && !watch.failed);
        let mut watch = Watch::new(Api::Images);
        watch.see(|| Some(b"image_generation.partial_image"), br#"{"b64_json":"AA","partial_image_index":0}"#);
        assert!(watch.closing().is_none() && !watch.done);
        watch.see(|| Some(b"image_generation.completed"), br#"{"b64_json":"AA","usage":{"output_tokens":9}}"#);
        assert_eq!(watch.closing(), Some(&br#"{"data":[0],"usage":{"output_tokens":9}}"#[..]));
        watch.see(|| Some(b"error"), b"{}");
        assert!(watch.failed);
    }

    #[test]
    fn an_error_of_anthropics_is_seen_and_a_text_about_one_is_not() {
        let mut watch = Watch::new(Api::Messages);
        watch.see(
            || None,
            br#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"{\"type\":\"error\"}"}}"#,
        );
        assert!(!watch.failed);
        watch.see(|| None, br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
        assert!(watch.failed);
    }
}
