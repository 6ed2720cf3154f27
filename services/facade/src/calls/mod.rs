//! Calls to models: what their routes have in common, whichever API they are of.

mod events;
pub(crate) mod headers;
pub(crate) mod reuse;
mod sound;

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Streaming;
use tonic::metadata::MetadataValue;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeRequest, Operation, StreamInvokeRequest, StreamInvokeResponse};
use weir_rpc::{Call, Error, Failure};

use crate::facade::{Facade, Incoming};
use crate::refusal::Refusal;
use crate::shape::Shape;
use events::Events;
use reuse::Reuse;
use sound::Sound;

/// nginx and others that understand it must not hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a route asks of the broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    /// Of the client's headers, those that a provider of its dialect gets.
    pub(crate) headers: HashMap<String, String>,
    /// Of a request for speech at ElevenLabs.
    pub(crate) voice: String,
    pub(crate) query: String,
}

impl From<Operation> for Asked {
    fn from(operation: Operation) -> Self {
        Self { operation, ..Self::default() }
    }
}

/// Answers as the body asks: at once, or as a stream.
pub(crate) async fn answer(
    facade: &Facade,
    incoming: Incoming,
    asked: Asked,
    shape: Shape,
) -> Result<Response<Body>, Refusal> {
    if asks_for_stream(&incoming.body) {
        stream(facade, incoming, asked, shape).await
    } else {
        invoke(facade, incoming, asked, shape).await
    }
}

/// One answer at once.
pub(crate) async fn invoke(
    facade: &Facade,
    incoming: Incoming,
    asked: Asked,
    shape: Shape,
) -> Result<Response<Body>, Refusal> {
    let Incoming { caller, body, client_ip, priority, feature, reuse, room: _room } = incoming;
    let request = invocation(body, client_ip, feature, reuse, asked);
    let answer = facade.as_caller(&caller, request, async |request| {
        facade.broker.clone().invoke(with_priority(request, priority)).await
    });
    let answer = answer.await?;
    let accounting = answer.accounting.unwrap_or_default();
    Ok(respond(facade, shape, &answer.content_type, &accounting, Body::from(answer.body)))
}

/// The answer as it comes. Errors before its first byte have a status of their own.
pub(crate) async fn stream(
    facade: &Facade,
    incoming: Incoming,
    asked: Asked,
    shape: Shape,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, room) = opened(facade, incoming, asked).await?;
    let first = parts.message().await.map_err(Failure::from)?;
    let mut response = match first.and_then(|first| first.part) {
        Some(Part::Start(start)) => {
            let accounting = start.accounting.unwrap_or_default();
            let events = Events::new(parts, room, None, shape);
            respond(facade, shape, &start.content_type, &accounting, Body::new(events))
        }
        // It waits for the provider: from now on errors are events, too.
        Some(Part::Queued(standing)) => {
            let position = HeaderValue::from(standing.position);
            let mut response = Response::new(Body::new(Events::new(parts, room, Some(standing), shape)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            response.headers_mut().insert(headers::QUEUE_POSITION, position);
            response
        }
        _ => return Err(Error::defect("the broker's stream does not begin with its start").into()),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The broker's answer part by part, and the room that it takes until its end.
async fn opened(
    facade: &Facade,
    incoming: Incoming,
    asked: Asked,
) -> Result<(Streaming<StreamInvokeResponse>, OwnedSemaphorePermit), Refusal> {
    let Incoming { caller, body, client_ip, priority, feature, reuse, room } = incoming;
    let request = StreamInvokeRequest { request: Some(invocation(body, client_ip, feature, reuse, asked)) };
    let answer = facade.as_caller(&caller, request, async |request| {
        facade.broker.clone().stream_invoke(with_priority(request, priority)).await
    });
    Ok((answer.await?, room))
}

/// Passes the client's word about its call's priority on; the broker judges it.
fn with_priority<M>(mut request: tonic::Request<M>, priority: Option<HeaderValue>) -> tonic::Request<M> {
    if let Some(priority) = priority {
        let said = MetadataValue::try_from(priority.as_bytes()).unwrap_or(MetadataValue::from_static("unreadable"));
        request.metadata_mut().insert(headers::PRIORITY, said);
    }
    request
}

/// An answer that is no events but bytes: it begins when the provider's does, and one that fails breaks off.
pub(crate) async fn bytes(
    facade: &Facade,
    incoming: Incoming,
    asked: Asked,
    shape: Shape,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, room) = opened(facade, incoming, asked).await?;
    loop {
        match parts.message().await.map_err(Failure::from)?.and_then(|first| first.part) {
            // Where it stands can't be told in the middle of a sound.
            Some(Part::Queued(_)) => {}
            Some(Part::Start(start)) => {
                let accounting = start.accounting.unwrap_or_default();
                let sound = Body::new(Sound::new(parts, room));
                return Ok(respond(facade, shape, &start.content_type, &accounting, sound));
            }
            _ => return Err(Error::defect("the broker's stream does not begin with its start").into()),
        }
    }
}

fn invocation(body: Bytes, client_ip: String, feature: String, reuse: Reuse, asked: Asked) -> InvokeRequest {
    let call = Call::current();
    let request_id = call.as_ref().and_then(|call| call.request_id().to_str().ok()).unwrap_or_default().to_owned();
    let Asked { operation, headers, voice, query } = asked;
    let Reuse { idempotency_key, cache } = reuse;
    InvokeRequest {
        operation: operation.into(),
        body,
        request_id,
        client_ip,
        headers,
        voice,
        query,
        idempotency_key,
        cache,
        feature,
    }
}

fn respond(facade: &Facade, shape: Shape, content_type: &str, accounting: &Accounting, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    headers::accounted(response.headers_mut(), accounting);
    match shape {
        Shape::Anthropic => {
            headers::anthropic_rate_limits(response.headers_mut(), &accounting.rate_limits, facade.clock.now());
        }
        Shape::OpenAi | Shape::Problem => headers::rate_limits(response.headers_mut(), &accounting.rate_limits),
    }
    response
}

static STREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stream\""));

/// Whether `stream` is true; everything else about the body is the broker's to judge.
fn asks_for_stream(body: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        stream: Option<bool>,
    }
    STREAM.find(body).is_some() && serde_json::from_slice::<Asked>(body).is_ok_and(|asked| asked.stream == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_at_the_top_level_only() {
        let asks = |text: &'static str| asks_for_stream(&Bytes::from_static(text.as_bytes()));
        assert!(asks(r#"{"model":"m","stream":true}"#));
        assert!(!asks(r#"{"model":"m","stream":false}"#));
        assert!(!asks(r#"{"model":"m","stream":null}"#));
        assert!(!asks(r#"{"messages":[{"stream":true}]}"#));
        assert!(!asks(r#"{"stream":"yes"}"#), "the broker refuses that");
    }
}
