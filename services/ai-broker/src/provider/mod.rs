//! Providers: where they are, their keys, and one call to them over HTTP.

mod client;
mod limits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use weir_proto::billing::v1::Limit;
use zeroize::Zeroizing;

pub(crate) use client::{ANYTHING, CallFailure, Client, EVENT_STREAM, JSON, MAX_ANSWER, ProviderCall, read};

use crate::app::Line;
use crate::config::{Config, ProviderConfig, key_label, resolve};
use crate::domain::api::{Api, Dialect};
use crate::domain::exchange::Manner;
use crate::domain::keys::{Key, KeyPool};
use crate::domain::request::ServiceTier;

pub(crate) use limits::KEY_LABEL;
use limits::quota_limits;

/// What translations are written for; a client that speaks the dialect itself says its own.
const ANTHROPIC_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// One provider, ready to be called.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) keys: KeyPool,
    /// How it wants to be spoken to.
    pub(crate) manner: Manner,
    pub(crate) first_byte_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    connect_timeout: Duration,
    /// Where calls wait while it has no room.
    pub(crate) line: Arc<Line>,
    /// How long a call may wait; zero for not at all.
    pub(crate) max_wait: Duration,
    pub(crate) client: Client,
    /// By [`Api`].
    urls: [Uri; 10],
    base_url: String,
    query: String,
    /// ElevenLabs' endpoint, before the voice.
    text_to_speech: String,
    key_header: HeaderName,
    /// What stands before a key there.
    scheme: &'static str,
    /// What that header says, by key.
    key_values: Vec<HeaderValue>,
    /// What the keys are called, in their order: never the keys themselves.
    key_labels: Vec<String>,
    /// What quota holds each of them to.
    key_limits: Vec<Vec<Limit>>,
}

/// The provider can't be called as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("provider `{provider}`: {message}")]
pub(crate) struct BadProvider {
    provider: String,
    message: &'static str,
}

/// Providers by name.
pub(crate) type Providers = BTreeMap<String, Arc<Provider>>;

/// All configured providers. Those that were there `before` go on with what is known of their keys, and with their lines.
pub(crate) fn providers(config: &Config, before: &Providers) -> Result<Providers, BadProvider> {
    let provider = |(name, provider): (&String, _)| {
        let provider = Provider::new(name, provider, config, before.get(name).map(|before| &**before))?;
        Ok((name.clone(), Arc::new(provider)))
    };
    config.providers.iter().map(provider).collect()
}

impl Provider {
    fn new(name: &str, config: &ProviderConfig, broker: &Config, before: Option<&Self>) -> Result<Self, BadProvider> {
        let bad = |message| BadProvider { provider: name.to_owned(), message };
        let (key_header, scheme) = key_header(config).ok_or_else(|| bad("`key_header` is not the name of a header"))?;
        let (mut keys, mut key_values, mut key_limits) = (Vec::new(), Vec::new(), Vec::new());
        for (label, key) in &config.keys {
            let secret = resolve(key.secret()).map_err(|_| bad("a key's environment variable or file is missing"))?;
            let mut value =
                HeaderValue::try_from(format!("{scheme}{secret}")).map_err(|_| bad("a key is not a header"))?;
            value.set_sensitive(true);
            key_values.push(value);
            key_limits.push(quota_limits(key.limits()));
            keys.push(Key::new(&key_id(label, &secret), key.limits()));
        }
        let url =
            |path: &str| join(&config.base_url, path, &config.query).ok_or_else(|| bad("the base URL is malformed"));
        // Connections that are open already serve on.
        let client = before.filter(|before| before.connect_timeout == config.connect_timeout);
        Ok(Self {
            name: name.to_owned(),
            key_limits,
            key_labels: config.keys.keys().map(|key| key_label(name, key)).collect(),
            keys: KeyPool::new(keys, (&broker.rests).into(), before.map(|before| &before.keys)),
            manner: Manner {
                dialect: config.dialect,
                max_tokens_field: config.max_tokens_field.clone(),
                effort_models: config.effort_models.clone(),
                drop_fields: config.drop_fields.clone(),
                service_tier: ServiceTier::named(&config.service_tier),
            },
            first_byte_timeout: config.first_byte_timeout,
            idle_timeout: config.idle_timeout,
            connect_timeout: config.connect_timeout,
            line: before.map(|before| Arc::clone(&before.line)).unwrap_or_default(),
            max_wait: config.max_wait,
            client: client.map_or_else(|| Client::new(config.connect_timeout), |before| before.client.clone()),
            urls: [
                url("/chat/completions")?,
                url("/embeddings")?,
                url("/messages")?,
                url("/responses")?,
                url("/audio/transcriptions")?,
                url("/audio/speech")?,
                url("/images/generations")?,
                url("/text-to-speech")?,
                url("/messages/count_tokens")?,
                url("/images/edits")?,
            ],
            base_url: config.base_url.clone(),
            query: config.query.clone(),
            text_to_speech: format!("{}/text-to-speech", config.base_url.trim_end_matches('/')),
            key_header,
            scheme,
            key_values,
        })
    }

    /// The URL of an endpoint; `suffix` is a voice and what is asked of it.
    pub(crate) fn url(&self, api: Api, suffix: &str) -> Uri {
        let index = match api {
            Api::Chat => 0,
            Api::Embeddings => 1,
            Api::Messages => 2,
            Api::Responses => 3,
            Api::Transcriptions => 4,
            Api::Speech => 5,
            Api::Images => 6,
            Api::TextToSpeech => 7,
            Api::CountTokens => 8,
            Api::ImageEdits => 9,
            Api::FalQueue => return self.endpoint(suffix).unwrap_or_else(|| self.urls[0].clone()),
        };
        let with_voice = (!suffix.is_empty()).then(|| format!("{}{suffix}", self.text_to_speech).parse().ok());
        with_voice.flatten().unwrap_or_else(|| self.urls[index].clone())
    }

    /// What stands behind the base URL.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Uri> {
        join(&self.base_url, path, &self.query)
    }

    /// What the provider is told with the key at `index`: who asks, and what the client itself said in its dialect.
    pub(crate) fn headers(&self, index: usize, own: Option<&HeaderMap>) -> HeaderMap {
        self.headers_with(self.credential(index), own)
    }

    /// What the header says with the key at `index`.
    pub(crate) fn credential(&self, index: usize) -> HeaderValue {
        self.key_values[index].clone()
    }

    /// What the header says with a key that is not the platform's; none if a header can't carry it.
    pub(crate) fn key_value(&self, secret: &[u8]) -> Option<HeaderValue> {
        let value = Zeroizing::new([self.scheme.as_bytes(), secret].concat());
        let mut value = HeaderValue::from_bytes(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The same as [`headers`](Self::headers), with what [`key_value`](Self::key_value) says.
    pub(crate) fn headers_with(&self, key: HeaderValue, own: Option<&HeaderMap>) -> HeaderMap {
        let mut headers = own.cloned().unwrap_or_default();
        headers.insert(self.key_header.clone(), key);
        if self.manner.dialect == Dialect::Anthropic {
            let (name, version) = ANTHROPIC_VERSION;
            headers.entry(name).or_insert(version);
        }
        headers
    }

    /// What quota counts the provider's requests by.
    pub(crate) fn label(&self) -> String {
        label(&self.name)
    }

    /// What quota holds the key at `index` to.
    pub(crate) fn key_limits(&self, index: usize) -> &[Limit] {
        &self.key_limits[index]
    }

    /// What quota counts the requests of the key at `index` by: its name under the provider's.
    pub(crate) fn key_label(&self, index: usize) -> &str {
        &self.key_labels[index]
    }
}

/// The header that carries the key, and what stands before it there.
fn key_header(config: &ProviderConfig) -> Option<(HeaderName, &'static str)> {
    match (&config.key_header, config.dialect) {
        (Some(name), _) => Some((name.parse().ok()?, "")),
        (None, Dialect::OpenAi) => Some((AUTHORIZATION, "Bearer ")),
        (None, Dialect::Fal) => Some((AUTHORIZATION, "Key ")),
        (None, Dialect::ElevenLabs) => Some((HeaderName::from_static("xi-api-key"), "")),
        (None, Dialect::Anthropic) => Some((HeaderName::from_static("x-api-key"), "")),
    }
}

/// A key's name with enough of its secret's hash to tell it from the key that it replaces: a new key under the old name has done
/// nothing wrong yet.
fn key_id(name: &str, secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    let tag: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}#{tag}")
}

/// As long as a label may be.
fn label(name: &str) -> String {
    let mut end = name.len().min(128);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

fn join(base: &str, path: &str, query: &str) -> Option<Uri> {
    let mut parts = base.parse::<Uri>().ok()?.into_parts();
    let base_path = parts.path_and_query.as_ref().map_or("", |p| p.path()).trim_end_matches('/').to_owned();
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{base_path}{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_joined_to_the_base() {
        let joined = |base| join(base, "/embeddings", "").map(|uri| uri.to_string());
        assert_eq!(joined("https://api.openai.com/v1").as_deref(), Some("https://api.openai.com/v1/embeddings"));
        assert_eq!(joined("http://localhost:1/v1/").as_deref(), Some("http://localhost:1/v1/embeddings"));
        assert_eq!(joined("http://localhost:1").as_deref(), Some("http://localhost:1/embeddings"));
        let azure = join("https://me.openai.azure.com/openai/deployments/d", "/embeddings", "api-version=2024-10-21");
        let expected = "https://me.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-10-21";
        assert_eq!(azure.map(|uri| uri.to_string()).as_deref(), Some(expected));
    }
}
