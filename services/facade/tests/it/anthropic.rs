//! Messages in Anthropic's shapes: what goes to the broker, what comes back, and how refusals look.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{
    Accounting, InvokeRequest, InvokeResponse, ListModelsResponse, Model, Operation, RateLimit, StreamInvokeRequest,
    StreamInvokeResponse, StreamStart,
};
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;

use crate::fixtures::{INVOKE, LIST_MODELS, STREAM};
use crate::scene::{KEY, Scene};

async fn ask(scene: &Scene, body: &Value) -> reqwest::Response {
    scene.request("POST", "/v1/messages").header("x-api-key", KEY).json(body).send().await.unwrap()
}

/// The status and the error of a refusal in Anthropic's shape.
async fn refusal(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let id = response.headers()["request-id"].to_str().unwrap().to_owned();
    let mut body: Value = response.json().await.unwrap();
    assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!(id)), "{body}");
    (status, body["error"].take())
}

#[tokio::test]
async fn tokens_are_counted_with_what_the_headers_say() {
    let scene = Scene::new().await;
    let body = Bytes::from_static(b"{\"input_tokens\":5}");
    scene.siblings.answer(INVOKE, InvokeResponse { body, ..InvokeResponse::default() });
    let request = scene.request("POST", "/v1/messages/count_tokens").header("x-api-key", KEY).body("{}");
    let response = request.header("anthropic-beta", "a").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "{\"input_tokens\":5}");
    let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert_eq!((asked.operation(), asked.headers["anthropic-beta"].as_str()), (Operation::CountTokens, "a"));
}

#[tokio::test]
async fn a_message_passes_untouched_with_what_its_headers_say() {
    let scene = Scene::new().await;
    let limit = RateLimit {
        kind: "requests".into(),
        limit: 50,
        remaining: 49,
        reset_after: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let accounting = Accounting { cost_nano_usd: 5, input_tokens: 1, rate_limits: vec![limit], ..Default::default() };
    let answer = InvokeResponse {
        body: Bytes::from_static(b"{\"id\" : \"msg_1\"}"),
        content_type: "application/json".into(),
        accounting: Some(accounting),
    };
    scene.siblings.answer(INVOKE, answer);
    let sent = "{ \"model\":\"claude\",\"new\":1e400}";
    let request = scene.request("POST", "/v1/messages").header("x-api-key", KEY).body(sent);
    let request = request.header("anthropic-version", "2026-10-21").header("anthropic-beta", "a,b");
    let response = request.header("x-anything", "else").send().await.unwrap();
    let headers = response.headers();
    assert_eq!(headers["request-id"], headers["x-request-id"]);
    assert_eq!(headers["anthropic-ratelimit-requests-limit"], "50");
    assert_eq!(headers["weir-cost-usd"], "0.000000005");
    let reset = headers["anthropic-ratelimit-requests-reset"].to_str().unwrap();
    assert!(reset.len() == 20 && reset.ends_with('Z'), "{reset}");
    assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    assert_eq!(response.text().await.unwrap(), "{\"id\" : \"msg_1\"}");
    let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert_eq!((asked.operation(), &asked.body[..]), (Operation::Messages, sent.as_bytes()));
    let mut headers: Vec<_> = asked.headers.into_iter().collect();
    headers.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers, [pair("anthropic-beta", "a,b"), pair("anthropic-version", "2026-10-21")]);
}

#[tokio::test]
async fn refusals_have_anthropics_shape_and_status() {
    let scene = Scene::new().await;
    for (reason, status, kind) in [
        (ErrorReason::InvalidArgument, 400, "invalid_request_error"),
        (ErrorReason::BudgetExhausted, 402, "billing_error"),
        (ErrorReason::QuotaExceeded, 429, "rate_limit_error"),
        (ErrorReason::ProviderFailed, 502, "api_error"),
    ] {
        scene.siblings.refuse(INVOKE, Error::new(reason, "why").retry_after(Duration::from_millis(1200)));
        let response = ask(&scene, &json!({})).await;
        assert_eq!(response.headers()["retry-after-ms"], "1200");
        let (actual, error) = refusal(response).await;
        assert_eq!((actual, &error), (status, &json!({"type": kind, "message": "why"})));
    }
    let unknown = scene.request("POST", "/v1/messages").send().await.unwrap();
    assert_eq!(refusal(unknown).await.1["type"], "authentication_error");
    let method = scene.request("GET", "/v1/messages").send().await.unwrap();
    assert_eq!(refusal(method).await.0, 405);
    let nowhere = scene.request("POST", "/v1/messages/batches").send().await.unwrap();
    assert_eq!(refusal(nowhere).await.1["type"], "not_found_error");
    let old = scene.request("POST", "/v1/messages").header("x-api-key", KEY).header("anthropic-version", "2023-01-01");
    assert_eq!(refusal(old.body("{}").send().await.unwrap()).await.0, 400);
}

#[tokio::test]
async fn a_providers_refusal_passes_as_it_came() {
    let scene = Scene::new().await;
    let body = r#"{"type":"error", "error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let answer = ProviderError { http_status: 529, body: body.into(), ..ProviderError::default() };
    scene.siblings.refuse(INVOKE, Error::new(ErrorReason::ProviderRejected, "refused").provider(answer));
    let response = ask(&scene, &json!({})).await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (529, body));
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_anthropics_event() {
    let scene = Scene::new().await;
    scene.siblings.stream(STREAM, || {
        let part = |part| Ok(StreamInvokeResponse { part: Some(part) });
        let start = StreamStart { content_type: "text/event-stream".into(), ..Default::default() };
        let event = Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
        let broken = Err(Error::new(ErrorReason::ProviderFailed, "it broke off"));
        futures::stream::iter([part(Part::Start(start)), part(Part::Chunk(event)), broken]).boxed()
    });
    let text = ask(&scene, &json!({"stream": true})).await.text().await.unwrap();
    let (first, last) = text.split_once("\n\n").unwrap();
    assert_eq!(first, "event: ping\ndata: {\"type\":\"ping\"}");
    assert!(last.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""), "{last}");
    assert!(!text.contains("[DONE]"));
    let (asked, _) = scene.siblings.last::<StreamInvokeRequest>(STREAM);
    assert_eq!(asked.request.unwrap().operation(), Operation::Messages);
}

#[tokio::test]
async fn models_are_listed_as_anthropics_clients_know_them() {
    let scene = Scene::new().await;
    let model = |id: &str| Model { id: id.into(), owned_by: "anthropic".into(), created: 0 };
    scene.siblings.answer(LIST_MODELS, ListModelsResponse { models: vec![model("a"), model("b")] });
    let get = async |path: &str| {
        let request = scene.request("GET", path).header("x-api-key", KEY).header("anthropic-version", "2023-06-01");
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let page = get("/v1/models").await;
    assert_eq!((&page["first_id"], &page["last_id"], &page["has_more"]), (&json!("a"), &json!("b"), &json!(false)));
    let one = json!({"type": "model", "id": "b", "display_name": "b", "created_at": "1970-01-01T00:00:00Z"});
    assert_eq!((&page["data"][1], &get("/v1/models/b").await), (&one, &one));
}
