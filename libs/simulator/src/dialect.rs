//! Which provider a request is meant for, and where that one expects its key.

use http::header::{AUTHORIZATION, HeaderMap};

/// A provider that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    ElevenLabs,
    Fal,
}

impl Dialect {
    /// All four listen on one address: their paths differ, but for `/v1/models`, which the kind of key tells apart.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let Some(rest) = path.strip_prefix("/v1/") else { return Self::Fal };
        let first = rest.split('/').next().unwrap_or_default();
        match first {
            "messages" => Self::Anthropic,
            "text-to-speech" | "voices" | "user" => Self::ElevenLabs,
            "models" if headers.contains_key("x-api-key") || headers.contains_key("anthropic-version") => {
                Self::Anthropic
            }
            "models" if headers.contains_key("xi-api-key") => Self::ElevenLabs,
            _ => Self::OpenAi,
        }
    }

    /// As in the books.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::ElevenLabs => "elevenlabs",
            Self::Fal => "fal",
        }
    }

    /// The secret that a request shows.
    pub(crate) fn secret(self, headers: &HeaderMap) -> Option<&str> {
        let secret = match self {
            Self::OpenAi => authorization(headers, "bearer"),
            Self::Anthropic => header(headers, "x-api-key").or_else(|| authorization(headers, "bearer")),
            Self::ElevenLabs => header(headers, "xi-api-key"),
            Self::Fal => authorization(headers, "key").or_else(|| authorization(headers, "bearer")),
        };
        secret.filter(|secret| !secret.is_empty())
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn authorization<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| secret.trim())
}
