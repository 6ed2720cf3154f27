//! The little language in which a request or a fault says what the provider should do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the provider should do instead of answering at once and completely: `key=value` pairs with commas between.
///
/// | key | meaning |
/// |---|---|
/// | `output_tokens=44` | so many output tokens, even above the request's maximum |
/// | `cached_tokens=8` | so many of the input tokens are reported as cached |
/// | `cache_write_tokens=8` | so many of the input tokens are reported as written to a cache (Anthropic) |
/// | `seconds=12.5` | so much audio is heard, whatever the file says |
/// | `usage=none` | the answer does not say what was used |
/// | `latency_ms=20` | time before the first byte |
/// | `generation_ms=900` | so long a picture takes (FAL) |
/// | `chunk_ms=1` | time between two tokens of a stream |
/// | `coalesce=1` | one write may carry several tokens |
/// | `status=429` | an error of this status |
/// | `code=insufficient_quota` | the error's code |
/// | `retry_after=2` | seconds in `retry-after` and `retry-after-ms`; may have a fraction |
/// | `body=malformed`, `html`, `empty` | a body that is not what was asked for, with status 200 unless `status` is given |
/// | `hang=1` | no answer ever |
/// | `reset=before`, `after` | the connection is reset before or after the head of the answer |
/// | `cut_after=10` | the connection is closed after so many tokens of a stream, or in the middle of a plain body |
/// | `end_after=10` | a stream ends well-formed after so many tokens, without `[DONE]` |
/// | `error_after=10` | a stream sends an error after so many tokens and ends; a picture fails (FAL) |
/// | `garbage_after=10` | a stream sends an unreadable event after so many tokens and goes on |
/// | `hang_after=10` | a stream sends nothing more after so many tokens; a picture is never done (FAL) |
/// | `fail_times=1` | only the first so many requests with this very directive fail |
/// | `tier=priority` | the answer says that it was served at this price, whatever was asked for |
/// | `tag=anything` | nothing: tells two directives apart |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directive {
    /// See the table.
    pub output_tokens: Option<u64>,
    /// See the table.
    pub cached_tokens: Option<u64>,
    /// See the table.
    pub cache_write_tokens: Option<u64>,
    /// `seconds`.
    pub heard: Option<Duration>,
    /// `generation_ms`.
    pub generation: Option<Duration>,
    /// `tier`.
    pub service_tier: Option<String>,
    /// `usage=none`.
    pub without_usage: bool,
    /// `latency_ms`.
    pub latency: Option<Duration>,
    /// `chunk_ms`.
    pub chunk_latency: Option<Duration>,
    /// See the table.
    pub coalesce: Option<bool>,
    /// See the table.
    pub status: Option<u16>,
    /// See the table.
    pub code: Option<String>,
    /// See the table.
    pub retry_after: Option<Duration>,
    /// See the table.
    pub body: Option<BadBody>,
    /// See the table.
    pub hang: bool,
    /// See the table.
    pub reset: Option<Reset>,
    /// One of `cut_after`, `end_after`, `error_after`, `garbage_after` and `hang_after`, with its number of tokens.
    pub break_after: Option<(u64, Break)>,
    /// See the table.
    pub fail_times: Option<u32>,
}

/// A body that is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// JSON that breaks off, with the right content type and a matching length.
    Malformed,
    /// A page as proxies send it.
    Html,
    /// Nothing.
    Empty,
}

/// When the connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Instead of an answer.
    Before,
    /// When the head of the answer has been sent.
    After,
}

/// How a stream goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The connection closes.
    Cut,
    /// It ends well-formed, without `[DONE]`.
    End,
    /// An error event, then the end.
    Error,
    /// An event that is not JSON, then the rest.
    Garbage,
    /// Silence.
    Hang,
}

/// A directive that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the directive at `{0}`")]
pub struct DirectiveError(String);

impl Directive {
    /// At which of its prices an OpenAI that is asked for `tier` says that it serves: at that one.
    pub(crate) fn served<'a>(&'a self, tier: Option<&'a str>) -> &'a str {
        let known = |tier: &str| ["flex", "priority", "fast", "ultrafast"].contains(&tier);
        let asked = tier.filter(|tier| known(tier));
        self.service_tier.as_deref().or(asked).unwrap_or("default")
    }

    /// This one, and where it is silent, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            output_tokens: self.output_tokens.or(other.output_tokens),
            cached_tokens: self.cached_tokens.or(other.cached_tokens),
            cache_write_tokens: self.cache_write_tokens.or(other.cache_write_tokens),
            heard: self.heard.or(other.heard),
            generation: self.generation.or(other.generation),
            service_tier: self.service_tier.or(other.service_tier),
            without_usage: self.without_usage || other.without_usage,
            latency: self.latency.or(other.latency),
            chunk_latency: self.chunk_latency.or(other.chunk_latency),
            coalesce: self.coalesce.or(other.coalesce),
            status: self.status.or(other.status),
            code: self.code.or(other.code),
            retry_after: self.retry_after.or(other.retry_after),
            body: self.body.or(other.body),
            hang: self.hang || other.hang,
            reset: self.reset.or(other.reset),
            break_after: self.break_after.or(other.break_after),
            fail_times: self.fail_times.or(other.fail_times),
        }
    }

    /// What is left of it when nothing fails.
    #[must_use]
    pub fn without_failure(self) -> Self {
        Self {
            output_tokens: self.output_tokens,
            cached_tokens: self.cached_tokens,
            cache_write_tokens: self.cache_write_tokens,
            heard: self.heard,
            generation: self.generation,
            service_tier: self.service_tier,
            latency: self.latency,
            chunk_latency: self.chunk_latency,
            coalesce: self.coalesce,
            ..Self::default()
        }
    }
}

impl FromStr for Directive {
    type Err = DirectiveError;

    fn from_str(text: &str) -> Result<Self, DirectiveError> {
        let mut directive = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let wrong = || DirectiveError(pair.to_owned());
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            directive.set(key.trim(), value.trim()).ok_or_else(wrong)?;
        }
        Ok(directive)
    }
}

impl Directive {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "output_tokens" => self.output_tokens = Some(value.parse().ok()?),
            "cached_tokens" => self.cached_tokens = Some(value.parse().ok()?),
            "cache_write_tokens" => self.cache_write_tokens = Some(value.parse().ok()?),
            "seconds" => self.heard = Some(duration(value, 1.0)?),
            "generation_ms" => self.generation = Some(duration(value, 1e-3)?),
            "tier" => self.service_tier = Some(value.to_owned()),
            "usage" => self.without_usage = (value == "none").then_some(true)?,
            "latency_ms" => self.latency = Some(duration(value, 1e-3)?),
            "chunk_ms" => self.chunk_latency = Some(duration(value, 1e-3)?),
            "coalesce" => self.coalesce = Some(flag(value)?),
            "status" => self.status = Some(value.parse().ok().filter(|status| (200..600).contains(status))?),
            "code" => self.code = Some(value.to_owned()),
            "retry_after" => self.retry_after = Some(duration(value, 1.0)?),
            "body" => self.body = Some(bad_body(value)?),
            "hang" => self.hang = flag(value)?,
            "reset" => self.reset = Some(reset(value)?),
            "fail_times" => self.fail_times = Some(value.parse().ok()?),
            "tag" => {}
            _ => self.break_after = Some((value.parse().ok()?, break_kind(key)?)),
        }
        Some(())
    }
}

fn duration(value: &str, unit: f64) -> Option<Duration> {
    value.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * unit).ok())
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn bad_body(value: &str) -> Option<BadBody> {
    match value {
        "malformed" => Some(BadBody::Malformed),
        "html" => Some(BadBody::Html),
        "empty" => Some(BadBody::Empty),
        _ => None,
    }
}

fn reset(value: &str) -> Option<Reset> {
    match value {
        "before" => Some(Reset::Before),
        "after" => Some(Reset::After),
        _ => None,
    }
}

fn break_kind(key: &str) -> Option<Break> {
    match key {
        "cut_after" => Some(Break::Cut),
        "end_after" => Some(Break::End),
        "error_after" => Some(Break::Error),
        "garbage_after" => Some(Break::Garbage),
        "hang_after" => Some(Break::Hang),
        _ => None,
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = Vec::new();
        let mut pair = |key: &str, value: Option<String>| pairs.extend(value.map(|value| format!("{key}={value}")));
        pair("output_tokens", self.output_tokens.map(|n| n.to_string()));
        pair("cached_tokens", self.cached_tokens.map(|n| n.to_string()));
        pair("cache_write_tokens", self.cache_write_tokens.map(|n| n.to_string()));
        pair("seconds", self.heard.map(|time| time.as_secs_f64().to_string()));
        pair("generation_ms", self.generation.map(|time| (time.as_secs_f64() * 1e3).to_string()));
        pair("tier", self.service_tier.clone());
        pair("usage", self.without_usage.then(|| "none".to_owned()));
        pair("latency_ms", self.latency.map(|time| (time.as_secs_f64() * 1e3).to_string()));
        pair("chunk_ms", self.chunk_latency.map(|time| (time.as_secs_f64() * 1e3).to_string()));
        pair("coalesce", self.coalesce.map(|on| u8::from(on).to_string()));
        pair("status", self.status.map(|status| status.to_string()));
        pair("code", self.code.clone());
        pair("retry_after", self.retry_after.map(|time| time.as_secs_f64().to_string()));
        pair("body", self.body.map(|body| format!("{body:?}").to_lowercase()));
        pair("hang", self.hang.then(|| "1".to_owned()));
        pair("reset", self.reset.map(|reset| format!("{reset:?}").to_lowercase()));
        if let Some((tokens, kind)) = self.break_after {
            pair(&format!("{kind:?}_after").to_lowercase(), Some(tokens.to_string()));
        }
        pair("fail_times", self.fail_times.map(|times| times.to_string()));
        f.write_str(&pairs.join(","))
    }
}

impl Serialize for Directive {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Directive {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn a_directive_reads_back_what_it_prints() {
        let text = "output_tokens=44,cached_tokens=3,cache_write_tokens=2,seconds=1.5,generation_ms=900,tier=flex,usage=none,latency_ms=20,chunk_ms=0.5,coalesce=1,status=429,\
                    code=insufficient_quota,retry_after=1.5,body=html,hang=1,reset=after,cut_after=10,fail_times=2";
        let directive: Directive = text.parse().unwrap();
        assert_eq!(directive.to_string(), text);
        assert_eq!(directive.to_string().parse::<Directive>().unwrap(), directive);
        assert_eq!(directive.break_after, Some((10, Break::Cut)));
    }

    #[test]
    fn a_directive_that_cannot_be_read_is_refused_by_its_place() {
        for wrong in ["status=42", "latency", "unknown=1", "body=xml", "retry_after=-1", "cut_after=x", "usage=some"] {
            let error = format!("hang=0,{wrong}").parse::<Directive>().unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
