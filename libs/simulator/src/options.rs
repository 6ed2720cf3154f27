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
    /// The keys that are accepted; with none, every bearer token is.
    pub api_keys: Vec<ApiKey>,
    /// Requests per rate window of each key that has no limit of its own.
    pub requests_per_window: Option<u32>,
    /// The width of the sliding window that requests are counted in; a minute at real providers.
    pub rate_window: Duration,
    /// The models that exist; with none, every name does.
    pub models: Vec<String>,
    /// Output tokens when a request names no maximum.
    pub default_output_tokens: u64,
    /// Input tokens of an image.
    pub image_tokens: u64,
    /// How many requests the log keeps; older ones are dropped from it, never from the totals.
    pub log_capacity: usize,
    /// The largest request body.
    pub max_body_bytes: usize,
}

/// A key that the provider accepts.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// What stands after `Bearer `.
    pub secret: String,
    /// Requests per rate window.
    pub requests_per_window: Option<u32>,
}

impl ApiKey {
    /// A key without a limit of its own.
    pub fn new(secret: impl Into<String>) -> Self {
        Self { secret: secret.into(), requests_per_window: None }
    }

    /// A key with so many requests per rate window.
    pub fn limited(secret: impl Into<String>, requests_per_window: u32) -> Self {
        Self { secret: secret.into(), requests_per_window: Some(requests_per_window) }
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
            requests_per_window: None,
            rate_window: Duration::from_secs(60),
            models: Vec::new(),
            default_output_tokens: 16,
            image_tokens: 85,
            log_capacity: 250_000,
            max_body_bytes: 64 << 20,
        }
    }
}

/// Run the simulated provider: OpenAI's dialect, any number of tokens, any failure, no cost.
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
    /// A key to accept, `SECRET` or `SECRET=LIMIT` (requests per rate window); repeatable. Without any, every key is accepted.
    #[arg(long = "api-key", value_name = "SECRET[=LIMIT]", value_parser = parse_api_key)]
    api_keys: Vec<ApiKey>,
    /// Requests per rate window of each key that has no limit of its own.
    #[arg(long, value_name = "LIMIT")]
    requests_per_window: Option<u32>,
    /// Seconds of the sliding rate window.
    #[arg(long, default_value_t = 60)]
    rate_window_secs: u64,
    /// A model that exists; repeatable. Without any, every model exists.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Output tokens when a request names no maximum.
    #[arg(long, default_value_t = 16)]
    default_output_tokens: u64,
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
            requests_per_window: self.requests_per_window,
            rate_window: Duration::from_secs(self.rate_window_secs),
            models: self.models,
            default_output_tokens: self.default_output_tokens,
            log_capacity: self.log_capacity,
            ..Options::default()
        }
    }
}

fn parse_api_key(argument: &str) -> Result<ApiKey, String> {
    let (secret, limit) = match argument.split_once('=') {
        Some((secret, limit)) => {
            (secret, Some(limit.parse().map_err(|_| format!("`{limit}` is not a number of requests"))?))
        }
        None => (argument, None),
    };
    if secret.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok(ApiKey { secret: secret.to_owned(), requests_per_window: limit })
}
