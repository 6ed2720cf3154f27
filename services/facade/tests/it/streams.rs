//! Streamed chats, and clients that leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeRequest, StreamInvokeRequest, StreamInvokeResponse, StreamStart};
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;

use crate::answers::openai_error;
use crate::fixtures::{INVOKE, STREAM};
use crate::scene::Scene;

type Parts = BoxStream<'static, Result<StreamInvokeResponse, Error>>;

fn part(part: Part) -> Result<StreamInvokeResponse, Error> {
    Ok(StreamInvokeResponse { part: Some(part) })
}

fn start() -> Result<StreamInvokeResponse, Error> {
    let accounting = Accounting { model: "gpt-4o".into(), attempts: 1, ..Accounting::default() };
    part(Part::Start(StreamStart {
        content_type: "text/event-stream; charset=utf-8".into(),
        accounting: Some(accounting),
    }))
}

fn chunk(text: &'static str) -> Result<StreamInvokeResponse, Error> {
    part(Part::Chunk(Bytes::from_static(text.as_bytes())))
}

fn parts(parts: Vec<Result<StreamInvokeResponse, Error>>) -> Parts {
    futures::stream::iter(parts).boxed()
}

async fn ask(scene: &Scene) -> reqwest::Response {
    scene.post("/v1/chat/completions", &json!({"model": "m", "stream": true})).send().await.unwrap()
}

/// Counts those that are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Begins, and never goes on.
fn endless(scene: &Scene) -> Arc<AtomicUsize> {
    let alive = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&alive);
    scene.siblings.stream(STREAM, move || {
        let alive = Alive::new(&counter);
        let rest = futures::stream::pending().inspect(move |_: &Result<StreamInvokeResponse, Error>| {
            let _ = &alive;
        });
        futures::stream::iter([start(), chunk("data: {\"n\":1}\n\n")]).chain(rest).boxed()
    });
    alive
}

#[tokio::test]
async fn events_pass_untouched_and_each_as_soon_as_it_is_there() {
    let scene = Scene::new().await;
    let (go_on, wait) = tokio::sync::watch::channel(false);
    scene.siblings.stream(STREAM, move || {
        let mut wait = wait.clone();
        let second = async move {
            wait.wait_for(|go_on| *go_on).await.unwrap();
            chunk(": comment\ndata:{\"odd\" : 1.0}\n\ndata: [DONE]\n\n")
        };
        let first = futures::stream::iter([start(), chunk("data: {\"n\":1}\n\n")]);
        let end = futures::stream::iter([part(Part::Accounting(Accounting::default()))]);
        first.chain(futures::stream::once(second)).chain(end).boxed()
    });
    let mut response = ask(&scene).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("weir-model", "gpt-4o"),
        ("weir-attempts", "1"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert!(!headers.contains_key("weir-cost-usd"), "not known yet");
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"n\":1}\n\n");
    go_on.send(true).unwrap();
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    assert_eq!(rest, b": comment\ndata:{\"odd\" : 1.0}\n\ndata: [DONE]\n\n");
    let (asked, _) = scene.siblings.last::<StreamInvokeRequest>(STREAM);
    assert_eq!(asked.request.unwrap().request_id, headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn an_error_before_the_first_byte_has_a_status_of_its_own() {
    let scene = Scene::new().await;
    let limited =
        || Error::new(ErrorReason::QuotaExceeded, "10 of 10 requests").retry_after(Duration::from_millis(1500));
    scene.siblings.refuse(STREAM, limited());
    let at_once = ask(&scene).await;
    scene.siblings.stream(STREAM, move || parts(vec![Err(limited())]));
    let in_the_trailers = ask(&scene).await;
    for response in [at_once, in_the_trailers] {
        assert_eq!(
            (&response.headers()["retry-after"], &response.headers()["retry-after-ms"]),
            (&"2".parse().unwrap(), &"1500".parse().unwrap())
        );
        let (status, error) = openai_error(response).await;
        assert_eq!((status, &error["code"]), (429, &json!("rate_limit_exceeded")));
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_the_last_event_and_the_stream_ends_as_streams_do() {
    let scene = Scene::new().await;
    scene.siblings.stream(STREAM, || {
        let broken = Error::new(ErrorReason::ProviderFailed, "openai broke off the answer");
        parts(vec![start(), chunk("data: {\"n\":1}\n\n"), Err(broken)])
    });
    let text = ask(&scene).await.text().await.unwrap();
    let mut events = text.split("\n\n");
    assert_eq!(events.next(), Some("data: {\"n\":1}"));
    let error: Value = serde_json::from_str(events.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(error["error"]["message"], "openai broke off the answer");
    assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&json!("server_error"), &json!("provider_failed")));
    assert_eq!((events.next(), events.next(), events.next()), (Some("data: [DONE]"), Some(""), None));
}

#[tokio::test]
async fn a_providers_error_of_several_lines_is_one_event() {
    let scene = Scene::new().await;
    scene.siblings.stream(STREAM, || {
        let answer = ProviderError {
            http_status: 500,
            body: "{\"error\":\n{\"message\":\"x\"}}\r\n".into(),
            ..Default::default()
        };
        parts(vec![start(), Err(Error::new(ErrorReason::ProviderRejected, "refused").provider(answer))])
    });
    let text = ask(&scene).await.text().await.unwrap();
    assert_eq!(text, "data: {\"error\": {\"message\":\"x\"}}  \n\ndata: [DONE]\n\n");
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_the_call_to_the_broker() {
    let scene = Scene::new().await;
    let alive = endless(&scene);
    let mut response = ask(&scene).await;
    assert!(response.chunk().await.unwrap().is_some());
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    drop(response);
    scene.eventually("the broker learns that the client left", |_| alive.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_ends_the_call_to_the_broker() {
    let scene = Scene::new().await;
    let alive = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&alive);
    scene.siblings.on(INVOKE, move |_: InvokeRequest| {
        let alive = Alive::new(&counter);
        async move {
            let _alive = alive;
            std::future::pending::<Result<(), Error>>().await
        }
    });
    let request = scene.post("/v1/chat/completions", &json!({"model": "m"})).send();
    let request = tokio::spawn(request);
    scene.eventually("the broker is asked", |_| alive.load(Ordering::Relaxed) == 1).await;
    request.abort();
    scene.eventually("the broker learns that the client left", |_| alive.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn streams_count_as_in_flight_until_they_end() {
    let scene = Scene::with("max_in_flight = 1").await;
    let alive = endless(&scene);
    let mut first = ask(&scene).await;
    assert!(first.chunk().await.unwrap().is_some());
    let refused = ask(&scene).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(openai_error(refused).await.0, 503);
    drop(first);
    scene.eventually("the first has ended", |_| alive.load(Ordering::Relaxed) == 0).await;
    assert_eq!(ask(&scene).await.status(), 200);
}
