//! Streams: passed on, counted, and billed whoever ends them.

use std::task::Poll;

use futures::StreamExt as _;
use serde_json::json;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::usage::v1::Outcome;

use crate::scene::{Scene, streamed};

#[tokio::test]
async fn a_stream_is_passed_on_and_billed_by_the_providers_count() {
    let scene = Scene::new().await;
    let (text, accounting, failure) = scene.stream_whole(&streamed(9, "")).await;
    assert!(failure.is_none() && text.ends_with("data: [DONE]\n\n"));
    assert!(!text.contains("\"usage\":{"), "the usage chunk was not asked for");
    assert_eq!(accounting.unwrap().output_tokens, 9);
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (5, 9, false));
}

#[tokio::test]
async fn what_has_come_together_is_passed_on_together() {
    let scene = Scene::new().await;
    let mut parts = scene.stream(&streamed(200, "coalesce=1")).await.unwrap();
    let (mut chunks, mut text) = (0, Vec::new());
    // As hyper's server reads a body: it asks once more before it lets others run.
    let mut next = async || {
        std::future::poll_fn(|context| match parts.poll_next_unpin(context) {
            Poll::Pending => parts.poll_next_unpin(context),
            ready => ready,
        })
        .await
    };
    while let Some(message) = next().await {
        if let Some(Part::Chunk(chunk)) = message.unwrap().part {
            chunks += 1;
            text.extend_from_slice(&chunk);
        }
    }
    let events = String::from_utf8(text).unwrap().matches("data: ").count();
    assert!(events > 200 && chunks < events / 4, "{events} events in {chunks} parts");
}

#[tokio::test]
async fn who_asks_for_the_usage_chunk_gets_it() {
    let scene = Scene::new().await;
    let mut body = streamed(2, "");
    body["stream_options"] = json!({"include_usage": true});
    let (text, _, _) = scene.stream_whole(&body).await;
    assert!(text.contains("\"completion_tokens\":2"));
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_by_the_providers_count() {
    let scene = Scene::new().await;
    let mut parts = scene.stream(&streamed(40, "chunk_ms=5")).await.unwrap();
    for _ in 0..3 {
        parts.message().await.unwrap();
    }
    drop(parts);
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.estimated), (40, false));
}

#[tokio::test]
async fn a_client_that_leaves_an_endless_answer_is_cut_and_counted() {
    let scene = Scene::with(&["k"], "drain = \"200ms\"").await;
    let mut parts = scene.stream(&streamed(10_000, "chunk_ms=20")).await.unwrap();
    parts.message().await.unwrap();
    drop(parts);
    let event = scene.settled().await;
    assert!(event.estimated && event.outcome() == Outcome::Cancelled);
    assert!((1..100).contains(&event.output_tokens), "{}", event.output_tokens);
}

#[tokio::test]
async fn a_client_that_leaves_a_plain_call_is_billed_all_the_same() {
    let scene = Scene::new().await;
    let body = crate::scene::chat(8, "latency_ms=1000");
    tokio::select! {
        answer = scene.invoke(&body) => panic!("{answer:?}"),
        () = scene.eventually("the provider works on it", async |scene| scene.provider.stats().in_flight == 1) => {}
    }
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.outcome()), (8, Outcome::Cancelled));
}

#[tokio::test]
async fn an_error_before_the_first_byte_has_its_own_status() {
    let scene = Scene::new().await;
    let failure = scene.stream(&streamed(3, "status=400")).await.unwrap_err();
    assert_eq!(failure.provider_error().unwrap().http_status, 400);
}
