//! Providers: where they are, their keys, and one call to them over HTTP.

mod client;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

pub(crate) use client::{CallFailure, Client, MAX_ANSWER, ProviderCall, read};

use crate::app::Line;
use crate::config::{Config, ProviderConfig, resolve};
use crate::domain::key_pool::KeyPool;

/// One provider, ready to be called.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) keys: KeyPool,
    pub(crate) max_tokens_field: String,
    pub(crate) first_byte_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// Where calls wait while it has no room.
    pub(crate) line: Arc<Line>,
    /// How long a call may wait; zero for not at all.
    pub(crate) max_wait: Duration,
    pub(crate) client: Client,
    chat_url: Uri,
    embeddings_url: Uri,
    authorization: Vec<HeaderValue>,
    /// What the keys are called, in their order: never the keys themselves.
    key_labels: Vec<String>,
}

/// The provider can't be called as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("provider `{provider}`: {message}")]
pub(crate) struct BadProvider {
    provider: String,
    message: &'static str,
}

/// Which of a provider's endpoints is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Embeddings,
}

impl Endpoint {
    /// As in usage records.
    pub(crate) const fn operation(self) -> &'static str {
        match self {
            Self::Chat => "chat.completions",
            Self::Embeddings => "embeddings",
        }
    }
}

/// All configured providers by name.
pub(crate) fn providers(config: &Config) -> Result<BTreeMap<String, Arc<Provider>>, BadProvider> {
    config
        .providers
        .iter()
        .map(|(name, provider)| Ok((name.clone(), Arc::new(Provider::new(name, provider, config)?))))
        .collect()
}

impl Provider {
    fn new(name: &str, config: &ProviderConfig, broker: &Config) -> Result<Self, BadProvider> {
        let bad = |message| BadProvider { provider: name.to_owned(), message };
        let authorization = config
            .keys
            .values()
            .map(|secret| {
                let key = resolve(secret).map_err(|_| bad("a key's environment variable is not set"))?;
                let mut value =
                    HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| bad("a key is not a header"))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let url = |path: &str| join(&config.base_url, path).ok_or_else(|| bad("the base URL is malformed"));
        Ok(Self {
            name: name.to_owned(),
            key_labels: config.keys.keys().map(|key| label(&format!("{name}/{key}"))).collect(),
            keys: KeyPool::new(authorization.len(), (&broker.rests).into()),
            max_tokens_field: config.max_tokens_field.clone(),
            first_byte_timeout: config.first_byte_timeout,
            idle_timeout: config.idle_timeout,
            line: Arc::default(),
            max_wait: config.max_wait,
            client: Client::new(config.connect_timeout),
            chat_url: url("/chat/completions")?,
            embeddings_url: url("/embeddings")?,
            authorization,
        })
    }

    /// The URL of an endpoint.
    pub(crate) fn url(&self, endpoint: Endpoint) -> &Uri {
        match endpoint {
            Endpoint::Chat => &self.chat_url,
            Endpoint::Embeddings => &self.embeddings_url,
        }
    }

    /// What quota counts the provider's requests by.
    pub(crate) fn label(&self) -> String {
        label(&self.name)
    }

    /// What quota counts the requests of the key at `index` by: its name under the provider's.
    pub(crate) fn key_label(&self, index: usize) -> &str {
        &self.key_labels[index]
    }

    /// The `authorization` header of the key at `index`.
    pub(crate) fn authorization(&self, index: usize) -> &HeaderValue {
        &self.authorization[index]
    }
}

/// As long as a label may be.
fn label(name: &str) -> String {
    let mut end = name.len().min(128);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

fn join(base: &str, path: &str) -> Option<Uri> {
    let mut parts = base.parse::<Uri>().ok()?.into_parts();
    let base_path = parts.path_and_query.as_ref().map_or("", |p| p.path()).trim_end_matches('/').to_owned();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{base_path}{path}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_joined_to_the_base() {
        let joined = |base| join(base, "/embeddings").map(|uri| uri.to_string());
        assert_eq!(joined("https://api.openai.com/v1").as_deref(), Some("https://api.openai.com/v1/embeddings"));
        assert_eq!(joined("http://localhost:1/v1/").as_deref(), Some("http://localhost:1/v1/embeddings"));
        assert_eq!(joined("http://localhost:1").as_deref(), Some("http://localhost:1/embeddings"));
    }
}
