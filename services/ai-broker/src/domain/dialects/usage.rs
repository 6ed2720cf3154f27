//! What an answer says that it used, in each dialect, counted in one way.

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_types::MAX_AMOUNT;
use weir_types::price::{TIERS, Tokens};

use super::json::Object;

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input: fresh, read from a cache, and written to one.
    pub input: i64,
    /// Of the input, what was read from a cache.
    pub cached_input: i64,
    /// Of the input, what was written to a cache for the usual time (five minutes at Anthropic).
    pub cache_write: i64,
    /// Of the input, what was written to a cache for an hour.
    pub cache_write_long: i64,
    /// Of the input, what was audio.
    pub audio_input: i64,
    /// Of the input, what were pictures, where they are counted apart.
    pub image_input: i64,
    /// All output, reasoning included.
    pub output: i64,
    /// Of the output, what was thought and not said.
    pub reasoning: i64,
    /// Of the output, what was audio.
    pub audio_output: i64,
}

/// Whose words an answer uses for what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions and embeddings: `prompt_tokens`, `completion_tokens`.
    Chat,
    /// OpenAI's responses and images: `input_tokens` and `output_tokens`, cached input included.
    Responses,
    /// OpenAI's transcriptions: tokens as in [`Dialect::Responses`], or seconds ([`transcribed_seconds`]).
    Transcriptions,
    /// Anthropic's messages: `input_tokens` without what a cache gave or took.
    Messages,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    cached_tokens: Option<i64>,
    cache_write_tokens: Option<i64>,
    audio_tokens: Option<i64>,
    image_tokens: Option<i64>,
    reasoning_tokens: Option<i64>,
    thinking_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct ChatUsage {
    prompt_tokens: i64,
    #[serde(default)]
    completion_tokens: Option<i64>,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
    #[serde(default)]
    completion_tokens_details: Option<Details>,
    /// DeepSeek's word for cached input.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct ResponsesUsage {
    input_tokens: i64,
    #[serde(default)]
    output_tokens: Option<i64>,
    #[serde(default)]
    input_tokens_details: Option<Details>,
    /// As transcriptions call it.
    #[serde(default)]
    input_token_details: Option<Details>,
    #[serde(default)]
    output_tokens_details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<i64>,
    ephemeral_1h_input_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct MessagesUsage {
    input_tokens: Option<i64>,
    cache_creation_input_tokens: Option<i64>,
    cache_read_input_tokens: Option<i64>,
    cache_creation: Option<CacheCreation>,
    output_tokens: Option<i64>,
    output_tokens_details: Option<Details>,
}

impl Usage {
    /// Reads a `usage` object; nothing if it is not one, or its numbers make no sense.
    #[must_use]
    pub fn of(dialect: Dialect, usage: &[u8]) -> Option<Self> {
        let usage = match dialect {
            Dialect::Chat => serde_json::from_slice::<ChatUsage>(usage).ok()?.into(),
            Dialect::Responses | Dialect::Transcriptions => {
                serde_json::from_slice::<ResponsesUsage>(usage).ok()?.into()
            }
            Dialect::Messages => Self::default().updated(&serde_json::from_slice(usage).ok()?),
        };
        usage.sensible()
    }

    /// Reads the usage of a whole answer.
    #[must_use]
    pub fn of_answer(dialect: Dialect, body: &[u8]) -> Option<Self> {
        Self::of(dialect, usage_of(body)?.get().as_bytes())
    }

    /// What a later event of a message says goes before what an earlier one said.
    fn updated(self, usage: &MessagesUsage) -> Self {
        let details = usage.cache_creation.as_ref();
        let long = details.and_then(|written| written.ephemeral_1h_input_tokens);
        let long = long.unwrap_or(if usage.cache_creation_input_tokens.is_some() { 0 } else { self.cache_write_long });
        let short = details.and_then(|written| written.ephemeral_5m_input_tokens);
        let short = short.or(usage.cache_creation_input_tokens.map(|written| written.saturating_sub(long)));
        // A later event that repeats the sum without its parts does not make an hour five minutes.
        let (short, long) = match (usage.cache_creation_input_tokens, details) {
            (Some(sum), None) if sum == self.cache_write.saturating_add(self.cache_write_long) => {
                (Some(self.cache_write), self.cache_write_long)
            }
            _ => (short, long),
        };
        let cache_write = short.unwrap_or(self.cache_write);
        let cached_input = usage.cache_read_input_tokens.unwrap_or(self.cached_input);
        let fresh = self.input - self.cached_input - self.cache_write - self.cache_write_long;
        let fresh = usage.input_tokens.unwrap_or(fresh);
        let sums = [cached_input, cache_write, long];
        let thought = usage.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens);
        Self {
            input: sums.iter().fold(fresh, |sum, part| sum.saturating_add(*part)),
            cached_input,
            cache_write,
            cache_write_long: long,
            output: usage.output_tokens.unwrap_or(self.output),
            reasoning: thought.unwrap_or(self.reasoning),
            ..self
        }
    }

    /// Parts are no more than their whole; a count that no answer can have makes all of it doubtful.
    fn sensible(self) -> Option<Self> {
        let all = [
            self.input,
            self.cached_input,
            self.cache_write,
            self.cache_write_long,
            self.audio_input,
            self.image_input,
            self.output,
            self.reasoning,
            self.audio_output,
        ];
        if all.iter().any(|count| !(0..=MAX_AMOUNT).contains(count)) {
            return None;
        }
        let cached_input = self.cached_input.min(self.input);
        let cache_write_long = self.cache_write_long.min(self.input - cached_input);
        Some(Self {
            cached_input,
            cache_write_long,
            cache_write: self.cache_write.min(self.input - cached_input - cache_write_long),
            audio_input: self.audio_input.min(self.input),
            image_input: self.image_input.min(self.input),
            reasoning: self.reasoning.min(self.output),
            audio_output: self.audio_output.min(self.output),
            ..self
        })
    }

    /// Of the input, what was neither read from a cache nor written to one.
    #[must_use]
    pub fn fresh_input(&self) -> i64 {
        self.input - self.cached_input - self.cache_write - self.cache_write_long
    }

    /// The `usage` of a chat completion.
    pub(super) fn write_chat(&self, out: &mut String) {
        let mut object = Object::open(out);
        object.number("prompt_tokens", self.input).number("completion_tokens", self.output);
        object.number("total_tokens", self.input.saturating_add(self.output));
        let mut details = Object::open(object.field("prompt_tokens_details"));
        details.number("cached_tokens", self.cached_input);
        details.number("cache_write_tokens", self.cache_write.saturating_add(self.cache_write_long));
        details.number("audio_tokens", self.audio_input).end();
        let mut details = Object::open(object.field("completion_tokens_details"));
        details.number("reasoning_tokens", self.reasoning).number("audio_tokens", self.audio_output).end();
        object.close();
    }

    /// The `usage` of a message.
    pub(super) fn write_messages(&self, out: &mut String) {
        let mut object = Object::open(out);
        object.number("input_tokens", self.fresh_input());
        object.number("cache_creation_input_tokens", self.cache_write.saturating_add(self.cache_write_long));
        object.number("cache_read_input_tokens", self.cached_input);
        object.number("output_tokens", self.output);
        if self.reasoning > 0 {
            Object::open(object.field("output_tokens_details")).number("thinking_tokens", self.reasoning).end();
        }
        object.close();
    }
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Self {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            cache_write_long: usage.cache_write_long,
            audio_input: usage.audio_input,
            image_input: usage.image_input,
            output: usage.output,
            reasoning: usage.reasoning,
            audio_output: usage.audio_output,
        }
    }
}

impl From<ChatUsage> for Usage {
    fn from(usage: ChatUsage) -> Self {
        let (input, output) =
            (usage.prompt_tokens_details.unwrap_or_default(), usage.completion_tokens_details.unwrap_or_default());
        Self {
            input: usage.prompt_tokens,
            cached_input: input.cached_tokens.or(usage.prompt_cache_hit_tokens).unwrap_or(0),
            cache_write: input.cache_write_tokens.unwrap_or(0),
            cache_write_long: 0,
            audio_input: input.audio_tokens.unwrap_or(0),
            image_input: input.image_tokens.unwrap_or(0),
            output: usage.completion_tokens.unwrap_or(0),
            reasoning: output.reasoning_tokens.unwrap_or(0),
            audio_output: output.audio_tokens.unwrap_or(0),
        }
    }
}

impl From<ResponsesUsage> for Usage {
    fn from(usage: ResponsesUsage) -> Self {
        let input = usage.input_tokens_details.or(usage.input_token_details).unwrap_or_default();
        let output = usage.output_tokens_details.unwrap_or_default();
        Self {
            input: usage.input_tokens,
            cached_input: input.cached_tokens.unwrap_or(0),
            cache_write: input.cache_write_tokens.unwrap_or(0),
            cache_write_long: 0,
            audio_input: input.audio_tokens.unwrap_or(0),
            image_input: input.image_tokens.unwrap_or(0),
            output: usage.output_tokens.unwrap_or(0),
            reasoning: output.reasoning_tokens.unwrap_or(0),
            audio_output: output.audio_tokens.unwrap_or(0),
        }
    }
}

/// At which of its prices an answer says that it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier(Option<&'static str>);

impl Tier {
    /// Reads a `service_tier`.
    #[must_use]
    pub fn of(said: &RawValue) -> Self {
        let said = said.get().trim_matches('"');
        Self(TIERS.into_iter().find(|tier| *tier == said))
    }

    /// Reads the one that stands in the `usage` of a message.
    #[must_use]
    pub fn of_usage(usage: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Usage<'a> {
            #[serde(borrow)]
            service_tier: Option<&'a RawValue>,
        }
        serde_json::from_str::<Usage<'_>>(usage.get()).ok()?.service_tier.map(Self::of)
    }

    /// One of [`TIERS`]; none: the usual prices.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.0
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

fn usage_of(body: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice::<Answer<'_>>(body).ok()?.usage
}

/// The whole seconds that a transcription says it is charged by; nothing where it counts tokens, or does not say.
#[must_use]
pub fn transcribed_seconds(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Duration {
        seconds: f64,
    }
    let usage: Duration = serde_json::from_str(usage_of(body)?.get()).ok()?;
    let seconds = usage.seconds.ceil();
    // A whole number below 2^31 is exact in a double.
    (0.0..2_147_483_648.0).contains(&seconds).then(|| format!("{seconds:.0}").parse().ok()).flatten()
}

/// Watches a stream for what it used.
#[derive(Debug, Clone)]
pub struct Meter {
    dialect: Dialect,
    so_far: Option<Usage>,
    tier: Option<Tier>,
}

#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Responses say it at their end, messages at their beginning.
    #[serde(borrow)]
    response: Option<Answer<'a>>,
    #[serde(borrow)]
    message: Option<Answer<'a>>,
}

impl Meter {
    /// A stream of this dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, so_far: None, tier: None }
    }

    /// Takes the data of one event. Events that say nothing of usage cost one search of their bytes.
    pub fn event(&mut self, data: &[u8]) {
        if find!(data, b"\"usage\"").is_none() {
            return;
        }
        let Ok(holder) = serde_json::from_slice::<Holder<'_>>(data) else { return };
        let inner = holder.response.or(holder.message);
        let tier = inner.as_ref().and_then(|inner| inner.service_tier).map(Tier::of);
        let Some(usage) = holder.usage.or(inner.and_then(|inner| inner.usage)).filter(|usage| usage.get() != "null")
        else {
            return;
        };
        self.tier = tier.or_else(|| Tier::of_usage(usage)).or(self.tier);
        let read = match self.dialect {
            Dialect::Messages => serde_json::from_str(usage.get())
                .ok()
                .and_then(|usage| self.so_far.unwrap_or_default().updated(&usage).sensible()),
            dialect => Usage::of(dialect, usage.get().as_bytes()),
        };
        self.so_far = read.or(self.so_far);
    }

    /// What the stream said so far that it used; at Anthropic the input from its first event on.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.so_far
    }

    /// At which of its prices the provider says that it serves the stream.
    #[must_use]
    pub fn tier(&self) -> Option<Tier> {
        self.tier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_counted_alike() {
        let expected =
            Usage { input: 100, cached_input: 60, cache_write: 10, output: 20, reasoning: 5, ..Usage::default() };
        let chat = br#"{"id":"x","usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
            "prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
        assert_eq!(Usage::of_answer(Dialect::Chat, chat), Some(expected));
        let responses =
            br#"{"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},
            "output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":120}}"#;
        assert_eq!(Usage::of_answer(Dialect::Responses, responses), Some(expected));
        let message = br#"{"usage":{"input_tokens":30,"cache_creation_input_tokens":10,"cache_read_input_tokens":60,
            "output_tokens":20,"output_tokens_details":{"thinking_tokens":5}}}"#;
        assert_eq!(Usage::of_answer(Dialect::Messages, message), Some(expected));
        assert_eq!(expected.fresh_input(), 30);
    }

    #[test]
    fn what_is_written_in_a_dialect_reads_back_in_it() {
        let usage = Usage { input: 9, cached_input: 4, cache_write: 2, output: 7, reasoning: 3, ..Usage::default() };
        let (mut chat, mut message) = (String::new(), String::new());
        usage.write_chat(&mut chat);
        usage.write_messages(&mut message);
        assert_eq!(Usage::of(Dialect::Chat, chat.as_bytes()), Some(usage));
        assert_eq!(Usage::of(Dialect::Messages, message.as_bytes()), Some(usage));
    }

    #[test]
    fn media_are_counted_in_their_own_units() {
        let image = br#"{"usage":{"input_tokens":13,"input_tokens_details":{"image_tokens":3,"text_tokens":10},
            "output_tokens":1056,"total_tokens":1069}}"#;
        let usage = Usage::of_answer(Dialect::Responses, image).expect("usage");
        assert_eq!((usage.input, usage.image_input, usage.output), (13, 3, 1056));
        let tokens =
            br#"{"text":"hi","usage":{"type":"tokens","input_tokens":40,"input_token_details":{"text_tokens":2,
            "audio_tokens":38},"output_tokens":3,"total_tokens":43}}"#;
        let usage = Usage::of_answer(Dialect::Transcriptions, tokens).expect("usage");
        assert_eq!((usage.input, usage.audio_input, usage.output), (40, 38, 3));
        assert_eq!(transcribed_seconds(tokens), None);
        let seconds = br#"{"text":"hi","usage":{"type":"duration","seconds":12.2}}"#;
        assert_eq!(
            (transcribed_seconds(seconds), Usage::of_answer(Dialect::Transcriptions, seconds)),
            (Some(13), None)
        );
    }

    #[test]
    fn a_count_that_makes_no_sense_is_none() {
        for bad in [
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":"7"}}"#,
            r#"{"usage":{"prompt_tokens":99999999999999999}}"#,
            r#"{"usage":null}"#,
            r#"{"usage":{"#,
            "",
        ] {
            assert_eq!(Usage::of_answer(Dialect::Chat, bad.as_bytes()), None, "{bad}");
        }
        let more_cached_than_there_is = br#"{"usage":{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}}"#;
        let usage = Usage::of_answer(Dialect::Chat, more_cached_than_there_is).expect("usage");
        assert_eq!((usage.cached_input, usage.fresh_input()), (5, 0));
    }

    #[test]
    fn a_message_says_its_input_first_and_its_output_last() {
        let mut meter = Meter::new(Dialect::Messages);
        meter.event(br#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":30,"cache_read_input_tokens":60,
            "cache_creation_input_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6},"output_tokens":1}}}"#);
        meter.event(br#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"usage"}}"#);
        let begun = meter.usage().expect("usage");
        assert_eq!((begun.input, begun.cache_write, begun.cache_write_long, begun.output), (100, 4, 6, 1));
        meter.event(br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":25}}"#);
        assert_eq!(meter.usage(), Some(Usage { output: 25, ..begun }));
        meter.event(
            br#"{"type":"message_delta","usage":{"input_tokens":30,"cache_creation_input_tokens":10,
            "cache_read_input_tokens":60,"output_tokens":26}}"#,
        );
        assert_eq!(meter.usage(), Some(Usage { output: 26, ..begun }));
    }

    #[test]
    fn chunks_and_responses_say_it_at_the_end() {
        let mut meter = Meter::new(Dialect::Chat);
        meter.event(br#"{"choices":[{"delta":{"content":"x"}}],"usage":null}"#);
        assert_eq!(meter.usage(), None);
        meter.event(br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
        assert_eq!(meter.usage().map(|usage| (usage.input, usage.output)), Some((3, 4)));
        let mut meter = Meter::new(Dialect::Responses);
        meter.event(br#"{"type":"response.created","response":{"usage":null}}"#);
        meter.event(br#"{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}"#);
        assert_eq!(meter.usage().map(|usage| (usage.input, usage.output)), Some((3, 4)));
    }
}
