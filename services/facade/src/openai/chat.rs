//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeRequest, Operation, StreamInvokeRequest};
use weir_rpc::{Call, Error, Failure};

use super::errors::{ErrorBody, OpenAiError};
use super::headers;
use super::stream::Events;
use crate::facade::{Facade, Incoming};
use crate::refusal::Refusal;

/// nginx and others that understand it must not hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers a chat, plain or, with `stream`, as server-sent events. Takes what OpenAI's endpoint takes.
#[utoipa::path(
    post, path = "/v1/chat/completions", operation_id = "createChatCompletion", tag = "openai",
    request_body(content = Object, description = "As OpenAI documents it; fields that Weir does not know reach the provider untouched."),
    responses(
        (
            status = 200, content_type = "application/json", body = Object,
            description = "As the provider answers; `text/event-stream` with `stream`. Headers say what it was: `weir-model`, `weir-attempts`, `weir-overhead-ms`, `weir-cost-usd` (not with `stream`), `weir-queue-position` and `weir-queue-ms` if it had to wait for the provider; and what is left: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.",
        ),
        (status = 402, description = "The budget is used up.", body = ErrorBody),
        (status = 429, description = "A rate limit refused; `retry-after` and `retry-after-ms` say when to try again.", body = ErrorBody),
        (status = "default", description = "Any other refusal; an error of the provider keeps its status and body.", body = ErrorBody)
    )
)]
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    let incoming = facade.receive(request).await?;
    let answer = if asks_for_stream(&incoming.body) {
        stream(&facade, incoming).await
    } else {
        invoke(&facade, incoming, Operation::ChatCompletions).await
    };
    Ok(answer?)
}

/// One answer at once. Also what embeddings need.
pub(crate) async fn invoke(
    facade: &Facade,
    incoming: Incoming,
    operation: Operation,
) -> Result<Response<Body>, Refusal> {
    let Incoming { caller, body, client_ip, room: _room } = incoming;
    let request = invocation(body, client_ip, operation);
    let answer = facade.as_caller(&caller, request, async |request| facade.broker.clone().invoke(request).await);
    let answer = answer.await?;
    let accounting = answer.accounting.unwrap_or_default();
    Ok(respond(&answer.content_type, &accounting, Body::from(answer.body)))
}

/// The answer as it comes. Errors before its first byte have a status of their own.
async fn stream(facade: &Facade, incoming: Incoming) -> Result<Response<Body>, Refusal> {
    let Incoming { caller, body, client_ip, room } = incoming;
    let request = StreamInvokeRequest { request: Some(invocation(body, client_ip, Operation::ChatCompletions)) };
    let answer = facade.as_caller(&caller, request, async |request| facade.broker.clone().stream_invoke(request).await);
    let mut parts = answer.await?;
    let first = parts.message().await.map_err(Failure::from)?;
    let mut response = match first.and_then(|first| first.part) {
        Some(Part::Start(start)) => {
            let accounting = start.accounting.unwrap_or_default();
            respond(&start.content_type, &accounting, Body::new(Events::new(parts, room, None)))
        }
        // It waits for the provider: from now on errors are events, too.
        Some(Part::Queued(standing)) => {
            let position = HeaderValue::from(standing.position);
            let mut response = Response::new(Body::new(Events::new(parts, room, Some(standing))));
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

fn invocation(body: Bytes, client_ip: String, operation: Operation) -> InvokeRequest {
    let call = Call::current();
    let request_id = call.as_ref().and_then(|call| call.request_id().to_str().ok()).unwrap_or_default().to_owned();
    InvokeRequest { operation: operation.into(), body, request_id, client_ip }
}

fn respond(content_type: &str, accounting: &Accounting, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    headers::accounted(response.headers_mut(), accounting);
    response
}

/// Whether `stream` is true; everything else about the body is the broker's to judge.
fn asks_for_stream(body: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        stream: Option<bool>,
    }
    memmem::find(body, b"\"stream\"").is_some()
        && serde_json::from_slice::<Asked>(body).is_ok_and(|asked| asked.stream == Some(true))
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
