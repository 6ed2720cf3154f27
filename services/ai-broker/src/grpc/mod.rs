//! The gRPC surface: messages to use cases and back.

mod cache;
mod jobs;
mod known;
mod provider_keys;
mod resources;
mod results;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::Stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Request, Response, Status};
use weir_proto::broker::v1::broker_service_server::BrokerService;
use weir_proto::broker::v1::{
    GetStatusRequest, GetStatusResponse, InvokeRequest, InvokeResponse, ListModelsRequest, ListModelsResponse,
    Operation, PreflightRequest, PreflightResponse, StreamInvokeRequest, StreamInvokeResponse,
};
use weir_rpc::{Error, Principal};
use weir_types::ReservationId;

use crate::app::{Broker, Caller, Incoming, Parts, Reuse};
use crate::domain::api::Api;
use crate::domain::cache::RequestHash;
use crate::domain::idempotency::is_key;
use crate::domain::jobs::Who;
use crate::domain::request::media::is_voice;

pub(crate) use cache::CacheGrpc;
pub(crate) use jobs::JobsGrpc;
pub(crate) use provider_keys::ProviderKeysGrpc;
pub(crate) use results::ResultsGrpc;

/// In a call's metadata: how much its caller needs the best model (`non-critical`: not at all).
const PRIORITY: &str = "weir-priority";

/// Serves [`BrokerService`].
pub(crate) struct Grpc(pub(crate) Arc<Broker>);

#[tonic::async_trait]
impl BrokerService for Grpc {
    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let (about, asked) = opened(request);
        let spare = spare(&about)?;
        let who = weir_rpc::caller(&about).principal()?;
        let known_by = self.known_by(who, spare, false, &asked);
        if let Some(hash) = &known_by
            && let Some(answer) = self.0.again(who.organization, hash, &asked.request_id)
        {
            return Ok(Response::new(answer));
        }
        let incoming = incoming(&about, asked, false, spare, known_by)?;
        Ok(Response::new(self.0.invoke_once(incoming).await?))
    }

    type StreamInvokeStream = Answer;

    async fn stream_invoke(&self, request: Request<StreamInvokeRequest>) -> Result<Response<Answer>, Status> {
        let (about, asked) = opened(request);
        let asked = asked.request.unwrap_or_default();
        let spare = spare(&about)?;
        let who = weir_rpc::caller(&about).principal()?;
        let known_by = self.known_by(who, spare, true, &asked);
        if let Some(hash) = &known_by
            && let Some(parts) = self.0.again_stream(who.organization, hash, &asked.request_id)
        {
            return Ok(Response::new(Answer(parts)));
        }
        let incoming = incoming(&about, asked, true, spare, known_by)?;
        Ok(Response::new(Answer(self.0.stream_once(incoming).await?)))
    }

    async fn preflight(&self, request: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        let (about, asked) = opened(request);
        let asked = asked.request.unwrap_or_default();
        let is_sound = api(asked.operation()).is_some_and(Api::is_sound);
        Ok(Response::new(self.0.preflight(incoming(&about, asked, is_sound, spare(&about)?, None)?).await?))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let organization = weir_rpc::caller(&request).principal()?.organization;
        let models = self.0.models(organization).await?;
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }
}

impl Grpc {
    /// What the request is known by if it comes again.
    fn known_by(&self, who: &Principal, spare: bool, stream: bool, asked: &InvokeRequest) -> Option<RequestHash> {
        if self.0.knows_requests() { known::known_by(who, spare, stream, asked) } else { None }
    }
}

/// A stream of parts whose errors are statuses.
pub(crate) struct Answer(Parts);

impl Stream for Answer {
    type Item = Result<StreamInvokeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context).map(|part| part.map(|part| part.map_err(Status::from)))
    }
}

/// What is said around a message, and the message.
fn opened<T>(request: Request<T>) -> (Request<()>, T) {
    let (metadata, extensions, message) = request.into_parts();
    (Request::from_parts(metadata, extensions, ()), message)
}

fn incoming(
    request: &Request<()>,
    asked: InvokeRequest,
    stream: bool,
    spare: bool,
    known_by: Option<RequestHash>,
) -> Result<Incoming, Error> {
    let api = api(asked.operation()).ok_or_else(|| Error::invalid("operation", "`operation` is required"))?;
    if stream && !api.streams() {
        return Err(Error::invalid("operation", format!("{} can't be streamed", api.operation())));
    }
    if !stream && api.is_sound() {
        return Err(Error::invalid("operation", format!("{} is answered as a stream", api.operation())));
    }
    let headers = headers(&asked.headers)?;
    let idempotency_key = match asked.idempotency_key {
        key if key.is_empty() => None,
        key if is_key(&key) => Some(key),
        _ => return Err(Error::invalid("idempotency_key", "must have 1 to 255 visible ASCII characters")),
    };
    let wish = cache::wish(asked.cache)?;
    let suffix = voice(api, &asked.voice, &asked.query)?;
    let principal = weir_rpc::caller(request).principal()?;
    let who = who(principal, asked.client_ip, asked.feature, "feature")?;
    let request_id = if asked.request_id.is_empty() { ReservationId::new_v7().to_string() } else { asked.request_id };
    Ok(Incoming {
        caller: Caller::new(principal.organization, &who),
        api,
        body: asked.body,
        headers,
        suffix,
        request_id,
        stream,
        received: Instant::now(),
        deadline: weir_rpc::deadline(request).map(tokio::time::Instant::into_std),
        spare,
        patience: None,
        reuse: Reuse { idempotency_key, claim: None, wish, known_by },
        keeper: None,
    })
}

/// Whether the caller does with a cheaper model.
fn spare(request: &Request<()>) -> Result<bool, Error> {
    match request.metadata().get(PRIORITY).map(|value| value.as_bytes()) {
        None | Some(b"normal") => Ok(false),
        Some(b"non-critical") => Ok(true),
        Some(_) => Err(Error::invalid(PRIORITY, "must be `normal` or `non-critical`")),
    }
}

/// Headers that a client may send through to a provider of its dialect.
const PASSED_ON: [&str; 3] = ["anthropic-beta", "anthropic-version", "content-type"];

/// What stands behind ElevenLabs' endpoint: nothing of a client's reaches a URL but what can't lead elsewhere.
fn voice(api: Api, voice: &str, query: &str) -> Result<String, Error> {
    if api != Api::TextToSpeech {
        return Ok(String::new());
    }
    if !is_voice(voice) {
        return Err(Error::invalid("voice", "must be letters and digits"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=&.".contains(&byte);
    if query.len() > 256 || !query.bytes().all(plain) {
        return Err(Error::invalid("query", "must be parameters of ElevenLabs'"));
    }
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("/{voice}/stream{mark}{query}"))
}

fn headers(sent: &HashMap<String, String>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        if let Some(value) = sent.get(name) {
            let value = HeaderValue::try_from(value).map_err(|_| Error::invalid(name, "is not a header's value"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(headers)
}

/// What an operation calls.
pub(crate) fn api(operation: Operation) -> Option<Api> {
    match operation {
        Operation::ChatCompletions => Some(Api::Chat),
        Operation::Embeddings => Some(Api::Embeddings),
        Operation::Messages => Some(Api::Messages),
        Operation::Responses => Some(Api::Responses),
        Operation::Transcriptions => Some(Api::Transcriptions),
        Operation::Speech => Some(Api::Speech),
        Operation::TextToSpeech => Some(Api::TextToSpeech),
        Operation::Images => Some(Api::Images),
        Operation::ImageEdits => Some(Api::ImageEdits),
        Operation::CountTokens => Some(Api::CountTokens),
        Operation::Unspecified => None,
    }
}

/// Who asks, and what for. `field` is where the feature stands.
fn who(principal: &Principal, ip: String, feature: String, field: &str) -> Result<Who, Error> {
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if feature.len() > 64 || !feature.bytes().all(is_named) {
        return Err(Error::invalid(field, "must have at most 64 letters, digits, `.`, `_` and `-`"));
    }
    Ok(Who { user: principal.user, api_key: principal.api_key, ip, feature })
}
