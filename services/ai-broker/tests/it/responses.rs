//! OpenAI's responses: passed on, and billed whoever ends them.

use serde_json::{Value, json};
use weir_proto::broker::v1::Operation;
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;

use crate::scene::Scene;

fn response(output: u32, directive: &str) -> Value {
    json!({
        "model": "sim-small",
        "input": "one two three four five",
        "max_output_tokens": output,
        "metadata": {"simulate": directive},
    })
}

fn streamed(output: u32, directive: &str) -> Value {
    let mut body = response(output, directive);
    body["stream"] = true.into();
    body
}

#[tokio::test]
async fn a_response_is_passed_on_and_billed_by_the_providers_count() {
    let scene = Scene::new().await;
    let answer = scene.invoke_as(Operation::Responses, &response(7, "cached_tokens=2")).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&answer["object"], &answer["usage"]["output_tokens"]), (&json!("response"), &json!(7)));
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.cached_input_tokens, event.output_tokens), (5, 2, 7));
    assert_eq!((event.operation.as_str(), event.estimated), ("responses", false));
}

#[tokio::test]
async fn a_streamed_response_ends_with_its_count() {
    let scene = Scene::new().await;
    let parts = scene.stream_as(Operation::Responses, &streamed(9, "")).await.unwrap();
    let (text, accounting, failure) = Scene::whole(parts).await;
    assert!(failure.is_none() && text.contains("\"usage\":{"), "{text}");
    assert_eq!(accounting.unwrap().output_tokens, 9);
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (5, 9, false));
}

#[tokio::test]
async fn a_response_without_a_bound_gets_the_routes() {
    let scene = Scene::new().await;
    let body = json!({"model": "fast", "input": "hi"});
    scene.invoke_as(Operation::Responses, &body).await.unwrap();
    assert_eq!(scene.settled().await.output_tokens, 32);
}

#[tokio::test]
async fn a_response_that_is_cut_is_counted() {
    for fault in ["cut_after=6", "error_after=6", "end_after=6", "hang_after=6"] {
        let scene = Scene::new().await;
        let parts = scene.stream_as(Operation::Responses, &streamed(50, fault)).await.unwrap();
        let (_, _, failure) = Scene::whole(parts).await;
        assert_eq!(failure.map(|failure| failure.reason()), Some(ErrorReason::ProviderFailed), "{fault}");
        let event = scene.settled().await;
        assert!(event.estimated && event.outcome() == Outcome::Broken, "{fault}");
        assert!((6..=50).contains(&event.output_tokens), "{fault}: {}", event.output_tokens);
    }
    let scene = Scene::new().await;
    let mut parts = scene.stream_as(Operation::Responses, &streamed(40, "chunk_ms=5")).await.unwrap();
    for _ in 0..3 {
        parts.message().await.unwrap();
    }
    drop(parts);
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.estimated), (40, false), "the provider's own count");
}

#[tokio::test]
async fn a_provider_without_responses_is_not_asked_for_one() {
    let scene = Scene::new().await;
    let body = json!({"model": "sim-claude", "input": "hi"});
    let failure = scene.invoke_as(Operation::Responses, &body).await.unwrap_err();
    assert_eq!((failure.reason(), failure.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, "model"));
    assert!(scene.siblings.reserved.lock().is_empty());
}
