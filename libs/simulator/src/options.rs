//! What can be set when the simulated provider starts.

use std::net::SocketAddr;
use std::time::Duration;

/// How the simulated provider behaves where no directive says otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Time before the first byte of each answer.
    pub latency: Duration,
    /// Time between two tokens of a stream.
    pub chunk_latency: Duration,
    /// Lets one write carry several tokens of a stream when no time lies between them. Otherwise each token is written by itself.
    pub coalesce: bool,
    /// The keys that are accepted, at each provider alike; with none, every key is.
    pub api_keys: Vec<ApiKey>,
    /// The limits of each key, as far as it has none of its own.
    pub limits: Limits,
    /// The width of the sliding window that requests and tokens are counted in; a minute at real providers.
    pub rate_window: Duration,
    /// The models that exist; with none, every name does.
    pub models: Vec<String>,
    /// Output tokens when a request names no maximum; at Anthropic, where it must, the length of an answer that fits.
    pub default_output_tokens: u64,
    /// Input tokens of an image.
    pub image_tokens: u64,
    /// The shortest prefix that Anthropic caches, in tokens.
    pub cacheable_tokens: u64,
    /// Characters that each key may still have spoken at ElevenLabs, if they are limited.
    pub characters: Option<u64>,
    /// How long a picture takes at FAL, from the shortest to the longest.
    pub generation: (Duration, Duration),
    /// How many pictures FAL makes for one key at once; the others stand in the queue.
    pub runners: usize,
    /// How many requests the log keeps; older ones are dropped from it, never from the totals.
    pub log_capacity: usize,
    /// The largest request body.
    pub max_body_bytes: usize,
}

/// A key that the provider accepts.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// What stands after `Bearer `, `Key ` or in the provider's own header.
    pub secret: String,
    /// The limits of its own.
    pub limits: Limits,
}

/// How much a key may use; what is unset is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per rate window. Polls at FAL do not count.
    pub requests: Option<u32>,
    /// Input tokens and the most output tokens together per rate window, as OpenAI counts.
    pub tokens: Option<u64>,
    /// Input tokens per rate window, without those read from a cache, as Anthropic counts.
    pub input_tokens: Option<u64>,
    /// The most output tokens per rate window, as Anthropic counts.
    pub output_tokens: Option<u64>,
    /// Requests under way at once.
    pub concurrent: Option<u32>,
}

impl Limits {
    /// So many requests per rate window.
    #[must_use]
    pub fn requests(requests: u32) -> Self {
        Self { requests: Some(requests), ..Self::default() }
    }

    /// These limits, and where one is unset, the other's.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            requests: self.requests.or(other.requests),
            tokens: self.tokens.or(other.tokens),
            input_tokens: self.input_tokens.or(other.input_tokens),
            output_tokens: self.output_tokens.or(other.output_tokens),
            concurrent: self.concurrent.or(other.concurrent),
        }
    }
}

impl std::str::FromStr for Limits {
    type Err = String;

    /// `15` is so many requests; `requests:15/tokens:90000/input_tokens:…/output_tokens:…/concurrent:3` names each.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split('/') {
            let (name, value) = part.split_once(':').unwrap_or(("requests", part));
            let wrong = || format!("`{part}` is not a limit");
            match name {
                "requests" => limits.requests = Some(value.parse().map_err(|_| wrong())?),
                "tokens" => limits.tokens = Some(value.parse().map_err(|_| wrong())?),
                "input_tokens" => limits.input_tokens = Some(value.parse().map_err(|_| wrong())?),
                "output_tokens" => limits.output_tokens = Some(value.parse().map_err(|_| wrong())?),
                "concurrent" => limits.concurrent = Some(value.parse().map_err(|_| wrong())?),
                _ => return Err(wrong()),
            }
        }
        Ok(limits)
    }
}

impl ApiKey {
    /// A key without a limit of its own.
    pub fn new(secret: impl Into<String>) -> Self {
        Self { secret: secret.into(), limits: Limits::default() }
    }

    /// A key with so many requests per rate window.
    pub fn limited(secret: impl Into<String>, requests_per_window: u32) -> Self {
        Self { secret: secret.into(), limits: Limits::requests(requests_per_window) }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            latency: Duration::ZERO,
            chunk_latency: Duration::ZERO,
            coalesce: false,
            api_keys: Vec::new(),
            limits: Limits::default(),
            rate_window: Duration::from_secs(60),
            models: Vec::new(),
            default_output_tokens: 16,
            image_tokens: 85,
            cacheable_tokens: 1_024,
            characters: None,
            generation: (Duration::from_secs(20), Duration::from_secs(45)),
            runners: 2,
            log_capacity: 250_000,
            max_body_bytes: 64 << 20,
        }
    }
}

/// Run the simulated providers: OpenAI, Anthropic, ElevenLabs and FAL on one address, any failure, no cost.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Milliseconds before the first byte of each answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Milliseconds between two tokens of a stream.
    #[arg(long, default_value_t = 0)]
    chunk_ms: u64,
    /// Let one write carry several tokens of a stream when no time lies between them.
    #[arg(long)]
    coalesce: bool,
    /// A key to accept, `SECRET` or `SECRET=LIMITS` (as for `--limits`); repeatable. Without any, every key is accepted.
    #[arg(long = "api-key", value_name = "SECRET[=LIMITS]", value_parser = parse_api_key)]
    api_keys: Vec<ApiKey>,
    /// Requests per rate window of each key that has no limit of its own.
    #[arg(long, value_name = "LIMIT")]
    requests_per_window: Option<u32>,
    /// Limits of each key: `requests:15/tokens:90000/input_tokens:50000/output_tokens:10000/concurrent:3`, any of them.
    #[arg(long, value_name = "LIMITS")]
    limits: Option<Limits>,
    /// Seconds of the sliding rate window.
    #[arg(long, default_value_t = 60)]
    rate_window_secs: u64,
    /// A model that exists; repeatable. Without any, every model exists.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Output tokens when a request names no maximum.
    #[arg(long, default_value_t = 16)]
    default_output_tokens: u64,
    /// The shortest prefix that Anthropic caches, in tokens.
    #[arg(long, default_value_t = 1_024)]
    cacheable_tokens: u64,
    /// Characters that each key may have spoken at ElevenLabs.
    #[arg(long, value_name = "CHARACTERS")]
    characters: Option<u64>,
    /// How long a picture takes at FAL: `MIN-MAX` milliseconds.
    #[arg(long, default_value = "20000-45000", value_name = "MIN-MAX", value_parser = parse_span)]
    generation_ms: (Duration, Duration),
    /// How many pictures FAL makes for one key at once.
    #[arg(long, default_value_t = 2)]
    runners: usize,
    /// How many requests the log at /simulator/served keeps.
    #[arg(long, default_value_t = 250_000)]
    log_capacity: usize,
}

impl Args {
    /// The options that the command line stands for.
    #[must_use]
    pub fn into_options(self) -> Options {
        Options {
            listen: self.listen,
            latency: Duration::from_millis(self.latency_ms),
            chunk_latency: Duration::from_millis(self.chunk_ms),
            coalesce: self.coalesce,
            api_keys: self.api_keys,
            limits: Limits { requests: self.requests_per_window, ..Limits::default() }
                .or(self.limits.unwrap_or_default()),
            rate_window: Duration::from_secs(self.rate_window_secs),
            models: self.models,
            default_output_tokens: self.default_output_tokens,
            log_capacity: self.log_capacity,
            cacheable_tokens: self.cacheable_tokens,
            characters: self.characters,
            generation: self.generation_ms,
            runners: self.runners,
            ..Options::default()
        }
    }
}

fn parse_api_key(argument: &str) -> Result<ApiKey, String> {
    let (secret, limits) = match argument.split_once('=') {
        Some((secret, limits)) => (secret, limits.parse()?),
        None => (argument, Limits::default()),
    };
    if secret.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok(ApiKey { secret: secret.to_owned(), limits })
}

fn parse_span(argument: &str) -> Result<(Duration, Duration), String> {
    let millis = |text: &str| text.parse().map(Duration::from_millis).map_err(|_| format!("`{text}` is not a number"));
    let (least, most) = argument.split_once('-').unwrap_or((argument, argument));
    let (least, most) = (millis(least)?, millis(most)?);
    if least > most { Err("the shortest time is longer than the longest".to_owned()) } else { Ok((least, most)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn limits_are_a_number_of_requests_or_named() {
        assert_eq!("15".parse(), Ok(Limits::requests(15)));
        let named: Limits = "requests:15/input_tokens:9/concurrent:2".parse().unwrap();
        assert_eq!(
            named,
            Limits { requests: Some(15), input_tokens: Some(9), concurrent: Some(2), ..Limits::default() }
        );
        for wrong in ["", "x", "requests:-1", "unheard:1", "15/"] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
    }
}
