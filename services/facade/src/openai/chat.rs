//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeRequest, Operation, StreamInvokeRequest};
use weir_rpc::{Error, Failure};

use super::errors::OpenAiError;
use super::headers;
use super::stream::Events;
use crate::facade::{Facade, Incoming};

/// Answers a chat completion, plain or as a stream.
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Response<Body> {
    let id = headers::request_id(request.headers());
    let answer = async {
        let incoming = facade.receive(request).await?;
        if asks_for_stream(&incoming.body) {
            stream(&facade, incoming, &id).await
        } else {
            plain(&facade, incoming, &id).await
        }
    };
    let answer =
        facade.serve(&id, facade.deadline, answer).await.unwrap_or_else(|error| OpenAiError::from(error).response());
    headers::identified(answer, id)
}

/// One answer at once. Also what embeddings need.
pub(crate) async fn invoke(
    facade: &Facade,
    incoming: Incoming,
    operation: Operation,
    id: &HeaderValue,
) -> Result<Response<Body>, Error> {
    let request = invocation(&incoming, operation, id);
    let answer =
        facade.as_caller(&incoming.caller, request, async |request| facade.broker.clone().invoke(request).await);
    let answer = answer.await?;
    let accounting = answer.accounting.unwrap_or_default();
    Ok(respond(&answer.content_type, &accounting, Body::from(answer.body)))
}

async fn plain(facade: &Facade, incoming: Incoming, id: &HeaderValue) -> Result<Response<Body>, Error> {
    invoke(facade, incoming, Operation::ChatCompletions, id).await
}

/// The answer as it comes. Errors before its first byte have a status of their own.
async fn stream(facade: &Facade, incoming: Incoming, id: &HeaderValue) -> Result<Response<Body>, Error> {
    let request = StreamInvokeRequest { request: Some(invocation(&incoming, Operation::ChatCompletions, id)) };
    let answer =
        facade.as_caller(&incoming.caller, request, async |request| facade.broker.clone().stream_invoke(request).await);
    let mut parts = answer.await?;
    let first = parts.message().await.map_err(|status| Failure::from(&status))?;
    let Some(Part::Start(start)) = first.and_then(|first| first.part) else {
        return Err(Error::defect("the broker's stream does not begin with its start"));
    };
    let accounting = start.accounting.unwrap_or_default();
    let mut response = respond(&start.content_type, &accounting, Body::new(Events::new(parts)));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn invocation(incoming: &Incoming, operation: Operation, id: &HeaderValue) -> InvokeRequest {
    InvokeRequest {
        operation: operation.into(),
        body: incoming.body.clone(),
        request_id: id.to_str().unwrap_or_default().to_owned(),
        client_ip: incoming.client_ip.clone(),
    }
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
