//! One request on its way to one provider, and its answer on the way back: as they are, or translated.

use bytes::Bytes;
use weir_types::price::Metered;
use weir_types::{Clock, unit};

use super::amounts::WorstCase;
use super::api::{Api, Dialect};
use super::catalogue::{Route, is_allowed};
use super::dialects::{
    Envelope, Target, ThinkingStyle, TranslateError, anthropic_client, errors, fal, media, openai_client, usage,
};
use super::request::media::speech_of_elevenlabs;
use super::request::{InvalidRequest, ModelRequest, ServiceTier};
use super::sse::{Passage, Scanner, Watch};
use super::usage::{Reported, of_answer};

/// How a provider wants to be spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) dialect: Dialect,
    /// The field that bounds an answer at OpenAI's kind.
    pub(crate) max_tokens_field: String,
    /// Models of Anthropic's that are told how hard to think by a word, as patterns.
    pub(crate) effort_models: Vec<String>,
    /// Fields that may be left out of a translation although it can't say them.
    pub(crate) drop_fields: Vec<String>,
    /// At which of its prices it serves requests that do not say.
    pub(crate) service_tier: ServiceTier,
}

/// A request as its provider gets it.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What the client asks in.
    client: Api,
    /// What the provider is asked in.
    pub(crate) api: Api,
    /// For the provider.
    pub(crate) body: Bytes,
    /// What stands behind the endpoint in its URL.
    pub(crate) suffix: String,
    include_usage: bool,
}

impl Exchange {
    /// Writes the request for the provider of `route`.
    ///
    /// # Errors
    /// The provider has no such API, or its dialect can't say something of it: the field is named.
    pub(crate) fn new(
        request: &ModelRequest,
        body: &Bytes,
        route: &Route,
        manner: &Manner,
        worst: &WorstCase,
    ) -> Result<Self, InvalidRequest> {
        let mut suffix = request.suffix.clone();
        let api = request.api.at(manner.dialect).ok_or_else(|| request.api.not_at(&route.id))?;
        let body = if api == request.api {
            let field = match api {
                Api::Responses => "max_output_tokens",
                _ => &manner.max_tokens_field,
            };
            let bounded = matches!(api, Api::Chat | Api::Responses);
            let bound = worst.set_max_output.filter(|_| bounded).map(|max| (field, max));
            request.upstream_body(body, &route.model, bound)
        } else if api == Api::TextToSpeech {
            let (url, body) = speech_of_elevenlabs(body, &route.model)?;
            suffix = url;
            body.into()
        } else if api == Api::FalQueue {
            if request.stream {
                let message = format!("`stream` can't be true: `{}` answers its pictures when they are done", route.id);
                return Err(InvalidRequest::new("stream", message));
            }
            suffix = format!("/{}", route.model);
            fal::request(body).map(Bytes::from).map_err(|error| inexpressible(&error, route))?
        } else {
            translated(request.api, body, route, manner, worst)?
        };
        Ok(Self { client: request.api, api, body, suffix, include_usage: request.include_usage })
    }

    /// What the client gets of a whole answer.
    ///
    /// # Errors
    /// It is not what the provider's dialect has for an answer.
    pub(crate) fn answer(&self, body: Bytes, clock: &dyn Clock) -> Result<Bytes, TranslateError> {
        match (self.client, self.api) {
            (Api::Chat, Api::Messages) => openai_client::answer(&body, &envelope(clock)).map(Bytes::from),
            (Api::Messages, Api::Chat) => anthropic_client::answer(&body, &envelope(clock)).map(Bytes::from),
            (_, Api::FalQueue) => fal::answer(&body, clock.now().timestamp()).map(Bytes::from),
            _ => Ok(body),
        }
    }

    /// What the client gets of an error's body.
    pub(crate) fn error(&self, body: Bytes) -> Bytes {
        match (self.client, self.api) {
            (Api::Chat, Api::Messages) => errors::to_chat(&body).into(),
            (Api::Messages, Api::Chat) => errors::to_messages(&body).into(),
            (_, Api::FalQueue) => fal::error(&body).into(),
            _ => body,
        }
    }

    /// What a whole answer of the provider's says that it used; `most` is the worst case.
    pub(crate) fn reported(&self, body: &[u8], most: &Metered) -> Reported {
        match self.api {
            Api::Chat | Api::Embeddings => of_answer(usage::Dialect::Chat, body),
            Api::Messages => of_answer(usage::Dialect::Messages, body),
            Api::Responses => of_answer(usage::Dialect::Responses, body),
            Api::Transcriptions => transcribed(body, most),
            Api::Images | Api::ImageEdits | Api::FalQueue => drawn(body, most),
            Api::Speech | Api::TextToSpeech | Api::CountTokens => Reported::Used(most.clone()),
        }
    }

    /// Reads the provider's stream, and says what the client gets of it. One that is no events, as of models that do not stream
    /// what they hear, is passed on as it is.
    pub(crate) fn scanner(&self, clock: &dyn Clock, events: bool) -> Scanner {
        let passage = match (self.client, self.api) {
            _ if self.api.is_sound() || !events && self.api.is_media() => Passage::Bytes,
            (Api::Chat, Api::Messages) => {
                Passage::ToChat(Box::new(openai_client::Stream::new(&envelope(clock), self.include_usage)))
            }
            (Api::Messages, Api::Chat) => {
                Passage::ToMessages(Box::new(anthropic_client::Stream::new(&envelope(clock))))
            }
            _ => Passage::AsTheyAre { usage: self.include_usage },
        };
        Scanner::new(Watch::new(self.api), passage)
    }
}

/// A transcription is charged by the provider's own seconds or tokens, else by the file's length.
fn transcribed(body: &[u8], most: &Metered) -> Reported {
    if !most.tokens.is_none() {
        return match usage::Usage::of_answer(usage::Dialect::Transcriptions, body) {
            Some(usage) => Reported::Used(Metered { tokens: usage.into(), ..most.clone() }),
            None => Reported::Missing,
        };
    }
    let mut used = most.clone();
    if let Some(seconds) = usage::transcribed_seconds(body) {
        used.units.insert(unit::SECOND.to_owned(), seconds);
    }
    Reported::Used(used)
}

/// Pictures are charged by the provider's own tokens, or by how many it made.
fn drawn(body: &[u8], most: &Metered) -> Reported {
    let Some(delivered) = media::delivered_pictures(body) else { return Reported::Unreadable };
    let mut used = most.clone();
    let asked = used.units.iter().find(|(name, _)| name.starts_with(unit::IMAGE)).map_or(1, |(_, count)| *count);
    let made = delivered.min(asked);
    // All pictures of a request are of one size.
    used.units.values_mut().for_each(|count| *count = *count / asked.max(1) * made);
    if !most.tokens.is_none() {
        match usage::Usage::of_answer(usage::Dialect::Responses, body) {
            Some(usage) => used.tokens = usage.into(),
            None => return Reported::Missing,
        }
    }
    Reported::Used(used)
}

/// A translated answer keeps the provider's own id and model, as one that is passed on does.
fn envelope(clock: &dyn Clock) -> Envelope<'static> {
    Envelope { id: None, model: None, created: clock.now().timestamp() }
}

fn translated(
    client: Api,
    body: &Bytes,
    route: &Route,
    manner: &Manner,
    worst: &WorstCase,
) -> Result<Bytes, InvalidRequest> {
    let by_word = is_allowed(&manner.effort_models, &route.model);
    let target = Target {
        model: &route.model,
        default_max_tokens: worst.per_answer.unsigned_abs(),
        max_tokens_field: &manner.max_tokens_field,
        thinking: if by_word { ThinkingStyle::Effort } else { ThinkingStyle::Budget },
        may_drop: &manner.drop_fields,
    };
    let written = match client {
        Api::Messages => anthropic_client::request(body, &target),
        _ => openai_client::request(body, &target),
    };
    written.map(Bytes::from).map_err(|error| inexpressible(&error, route))
}

fn inexpressible(error: &TranslateError, route: &Route) -> InvalidRequest {
    let message = match error {
        TranslateError::Inexpressible { .. } => {
            format!("{error} (`{}` is served by a provider of another dialect)", route.id)
        }
        _ => error.to_string(),
    };
    InvalidRequest::new(error.field().to_owned(), message)
}

/// What Anthropic tells a model about tools in words of its own: the most tokens that its documentation names, rounded up
/// (<https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing>).
const TOOLS_PROMPT: i64 = 1_024;

impl Manner {
    /// Input tokens that the provider adds to what it is sent.
    pub(crate) fn added_input(&self, body: &[u8]) -> i64 {
        let told = self.dialect == Dialect::Anthropic && find!(body, b"\"tools\"").is_some();
        if told { TOOLS_PROMPT } else { 0 }
    }

    /// Whether a part of the input may be written to a cache, which may cost more: at Anthropic only on request.
    pub(crate) fn may_write_cache(&self, body: &[u8]) -> bool {
        self.dialect == Dialect::OpenAi || find!(body, b"cache_control").is_some()
    }
}
