//! What the provider does wrong: the client gets an answer of the right class, and the books say what was really served.

use std::time::Duration;

use serde_json::{Value, json};
use weir_integration_tests::deployment::{Mode, Options};

use crate::{World, asking, with};

/// Keys that were turned down are soon tried again.
const SHORT_RESTS: &str =
    "[broker.rests]\nrefused = \"100ms\"\nfailed = \"100ms\"\nfailed_most = \"100ms\"\nprobe = \"100ms\"\n";

#[tokio::test]
async fn a_failure_before_the_first_byte_is_tried_again_and_charged_once() {
    let more_config = SHORT_RESTS.to_owned();
    let world = World::start(Options { more_config, ..Options::new(Mode::One) }).await;
    for fault in ["status=500", "status=503", "status=429,retry_after=1", "status=401"] {
        let response = world.chat(&asking(&format!("{fault},fail_times=1,tag=plain"))).await;
        assert_eq!(response.status(), 200, "{fault}");
        keys_are_rested().await;
        let streamed = with(asking(&format!("{fault},fail_times=1,tag=stream")), &json!({"stream": true}));
        let text = world.chat(&streamed).await.text().await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("\"error\""), "{fault}: {text}");
        keys_are_rested().await;
    }
    let books = world.books().await;
    let stats = world.deployment.provider.stats().await.unwrap();
    assert_eq!(stats.charged_requests, 8);
    assert_eq!(books.usage.totals.output_tokens, 64);
    assert_eq!((books.usage.totals.requests, books.usage.estimated), (8, 0));
}

/// A key that was turned down is left alone for a second.
async fn keys_are_rested() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

#[tokio::test]
async fn a_refusal_of_the_provider_reaches_the_client_as_it_came_and_costs_nothing() {
    let world = World::in_one_process().await;
    let response = world.chat(&asking("status=400,code=content_policy")).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "content_policy");
    assert_eq!(world.books().await.usage.totals.requests, 0);
}

#[tokio::test]
async fn unreadable_answers_are_errors_for_the_client_and_estimated_in_the_books() {
    let world = World::in_one_process().await;
    for body in ["html", "malformed", "empty"] {
        let response = world.chat(&asking(&format!("body={body}"))).await;
        assert_eq!(response.status(), 502, "{body}");
        assert!(response.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
    let books = world.books().await;
    assert_eq!((books.usage.totals.requests, books.usage.estimated), (3, 3));
    // The provider has charged for each, and nobody can see how much.
    let stats = world.deployment.provider.stats().await.unwrap();
    assert_eq!(books.usage.totals.output_tokens, i64::try_from(stats.output_tokens).unwrap());
    assert!(books.usage.totals.input_tokens >= i64::try_from(stats.input_tokens).unwrap());
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_in_the_stream_and_its_tokens_are_counted() {
    let world = World::in_one_process().await;
    for (fault, tokens) in [("cut_after=5", 5), ("end_after=3", 3)] {
        let streamed = with(asking(fault), &json!({"stream": true, "max_completion_tokens": 20}));
        let text = world.chat(&streamed).await.text().await.unwrap();
        assert!(text.contains("\"error\""), "{fault}: {text}");
        assert_eq!(text.matches("\"content\":\"").count() - 1, tokens, "{fault}: {text}");
    }
    let books = world.books().await;
    assert_eq!((books.usage.totals.requests, books.usage.estimated, books.usage.totals.output_tokens), (2, 2, 8));
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_for_what_was_produced() {
    let world = World::start(Options::new(Mode::Separate)).await;
    let slow = with(asking("chunk_ms=5"), &json!({"stream": true, "max_completion_tokens": 60}));
    let mut response = world.chat(&slow).await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let books = world.books().await;
    let stats = world.deployment.provider.stats().await.unwrap();
    assert_eq!(books.usage.totals.requests, 1);
    assert_eq!(books.usage.totals.output_tokens, i64::try_from(stats.output_tokens).unwrap());
}
