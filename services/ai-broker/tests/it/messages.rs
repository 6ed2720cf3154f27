//! Anthropic's messages, and conversations that are translated: answered in the client's dialect, billed by the provider's count
//! whoever ends them.

use serde_json::{Value, json};
use weir_proto::broker::v1::Operation;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;
use weir_simulator::{Directive, Fault};

use crate::scene::{Scene, chat, streamed};

/// A message of five input tokens to a model.
fn message(model: &str, output: u32) -> Value {
    json!({
        "model": model,
        "max_tokens": output,
        "messages": [{"role": "user", "content": "one two three four five"}],
    })
}

fn of_claude(mut body: Value) -> Value {
    body["model"] = "sim-claude".into();
    body
}

/// A request that is translated loses what it says to the simulator, so that is said beside it.
fn simulate(scene: &Scene, directive: &str) {
    let directive: Directive = directive.parse().unwrap();
    scene.provider.add_fault(Fault { api_key: None, simulate: directive, times: None, percent: None });
}

async fn answered(scene: &Scene, operation: Operation, body: &Value) -> Value {
    serde_json::from_slice(&scene.invoke_as(operation, body).await.unwrap().body).unwrap()
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_for_nothing() {
    let scene = Scene::new().await;
    let body = json!({"model": "sim-claude", "messages": [{"role": "user", "content": "one two three four five"}]});
    let answer = scene.invoke_as(Operation::CountTokens, &body).await.unwrap();
    let counted: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(counted, json!({"input_tokens": 5}));
    let event = scene.settled().await;
    assert_eq!((event.operation.as_str(), event.input_tokens, event.output_tokens), ("messages.count_tokens", 0, 0));
    assert_eq!((event.cost_nano_usd, event.estimated), (0, false));
    let reserved = scene.siblings.reserved.lock()[&event.event_id].amounts.clone();
    let of = |unit: &str| reserved.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
    assert_eq!((of("request"), of("count_tokens_request"), of("nano_usd")), (Some(1), Some(1), Some(0)));
    let unserved = json!({"model": "sim-small", "messages": [{"role": "user", "content": "hi"}]});
    let refused = scene.invoke_as(Operation::CountTokens, &unserved).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, "model"));
    assert!(
        refused.message().contains("`sim-small` can't be asked for messages.count_tokens"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_message_goes_to_a_model_of_its_dialect_as_it_is() {
    let scene = Scene::new().await;
    let mut body = message("sim-claude", 7);
    body["metadata"] = json!({"simulate": "cached_tokens=2,cache_write_tokens=1"});
    let answer = answered(&scene, Operation::Messages, &body).await;
    assert_eq!((&answer["type"], &answer["usage"]["output_tokens"]), (&json!("message"), &json!(7)));
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.cached_input_tokens, event.output_tokens), (5, 2, 7));
    assert_eq!(event.quantities["cache_write_token"], 1);
    assert_eq!((event.operation.as_str(), event.provider.as_str()), ("messages", "claude"));
    assert!(!event.estimated && event.outcome() == Outcome::Complete);
}

#[tokio::test]
async fn a_message_to_a_model_of_openais_is_translated_both_ways() {
    let scene = Scene::new().await;
    let answer = answered(&scene, Operation::Messages, &message("fast", 7)).await;
    assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("max_tokens")));
    assert_eq!(answer["usage"]["output_tokens"], 7);
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.model.as_str()), (5, 7, "sim-small"));
    assert_eq!(scene.provider.served_as(&event.event_id)[0].operation, "chat.completions");
}

#[tokio::test]
async fn a_chat_with_a_model_of_anthropics_is_translated_both_ways() {
    let scene = Scene::new().await;
    let answer = answered(&scene, Operation::ChatCompletions, &of_claude(chat(7, ""))).await;
    assert_eq!(
        (&answer["object"], &answer["choices"][0]["finish_reason"]),
        (&json!("chat.completion"), &json!("length"))
    );
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.operation.as_str()), (5, 7, "chat.completions"));
    assert_eq!(scene.provider.served_as(&event.event_id)[0].operation, "messages");
}

#[tokio::test]
async fn streams_of_all_four_kinds_end_as_their_clients_expect_and_are_counted() {
    for (operation, body, end) in [
        (Operation::Messages, message("sim-claude", 9), "data: {\"type\":\"message_stop\"}\n\n"),
        (Operation::Messages, message("fast", 9), "data: {\"type\":\"message_stop\"}\n\n"),
        (Operation::ChatCompletions, of_claude(chat(9, "")), "data: [DONE]\n\n"),
        (Operation::ChatCompletions, chat(9, ""), "data: [DONE]\n\n"),
    ] {
        let scene = Scene::new().await;
        let mut body = body;
        body["stream"] = true.into();
        let (text, accounting, failure) = Scene::whole(scene.stream_as(operation, &body).await.unwrap()).await;
        assert!(failure.is_none() && text.ends_with(end), "{operation:?} {body}: {text}");
        assert_eq!(accounting.unwrap().output_tokens, 9);
        let event = scene.settled().await;
        assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (5, 9, false), "{body}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_by_the_providers_count() {
    for (operation, body) in [
        (Operation::Messages, message("sim-claude", 16)),
        (Operation::Messages, message("fast", 16)),
        (Operation::ChatCompletions, of_claude(chat(16, ""))),
    ] {
        let scene = Scene::new().await;
        simulate(&scene, "chunk_ms=5");
        let mut body = body;
        body["stream"] = true.into();
        let mut parts = scene.stream_as(operation, &body).await.unwrap();
        for _ in 0..3 {
            parts.message().await.unwrap();
        }
        drop(parts);
        let event = scene.settled().await;
        assert_eq!((event.output_tokens, event.estimated), (16, false), "{operation:?} {body}");
    }
}

#[tokio::test]
async fn what_a_provider_breaks_off_is_counted_and_told() {
    for (operation, body) in [
        (Operation::Messages, message("sim-claude", 16)),
        (Operation::Messages, message("fast", 16)),
        (Operation::ChatCompletions, of_claude(chat(16, ""))),
    ] {
        for fault in ["cut_after=6", "error_after=6", "end_after=6", "hang_after=6"] {
            let scene = Scene::new().await;
            simulate(&scene, fault);
            let mut body = body.clone();
            body["stream"] = true.into();
            let (text, _, failure) = Scene::whole(scene.stream_as(operation, &body).await.unwrap()).await;
            assert_eq!(
                failure.map(|failure| failure.reason()),
                Some(ErrorReason::ProviderFailed),
                "{fault} {body} {text}"
            );
            assert!(!text.contains("message_stop"), "{fault} {body}: {text}");
            let event = scene.settled().await;
            assert!(event.estimated && event.outcome() == Outcome::Broken, "{fault} {body}");
            assert!((6..=16).contains(&event.output_tokens), "{fault} {body}: {}", event.output_tokens);
            assert!(event.input_tokens >= 5, "{fault} {body}: {}", event.input_tokens);
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_endless_message_is_cut_and_counted() {
    let scene = Scene::with(&["k"], "drain = \"200ms\"").await;
    simulate(&scene, "chunk_ms=20,output_tokens=10000");
    let mut body = message("sim-claude", 16_000);
    body["stream"] = true.into();
    let mut parts = scene.stream_as(Operation::Messages, &body).await.unwrap();
    while !matches!(parts.message().await.unwrap().unwrap().part, Some(Part::Chunk(_))) {}
    drop(parts);
    let event = scene.settled().await;
    assert!(event.estimated && event.outcome() == Outcome::Cancelled);
    assert_eq!(event.input_tokens, 5, "the provider said so at the beginning");
    assert!((1..1000).contains(&event.output_tokens), "{}", event.output_tokens);
}

#[tokio::test]
async fn a_providers_refusal_is_said_in_the_clients_dialect() {
    for (operation, body, class) in [
        (Operation::Messages, message("sim-claude", 5), "/error/type"),
        (Operation::Messages, message("fast", 5), "/error/type"),
        (Operation::ChatCompletions, of_claude(chat(5, "")), "/error/code"),
    ] {
        let scene = Scene::new().await;
        simulate(&scene, "status=400");
        let failure = scene.invoke_as(operation, &body).await.unwrap_err();
        let told = failure.provider_error().unwrap();
        let error: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told.http_status, 400);
        assert!(error.pointer(class).is_some(), "{error}");
        assert_eq!(error["type"] == "error", operation == Operation::Messages, "{error}");
        assert_eq!(scene.ends().await, (1, 0, 1));
    }
}

#[tokio::test]
async fn what_cant_be_translated_is_refused_by_name_before_anything_is_reserved() {
    let scene = Scene::new().await;
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    for (operation, body, field) in [
        (Operation::Messages, with(message("fast", 5), "top_k", json!(3)), "top_k"),
        (Operation::ChatCompletions, with(of_claude(chat(5, "")), "seed", json!(3)), "seed"),
        (Operation::ChatCompletions, with(of_claude(chat(5, "")), "n", json!(2)), "n"),
        (Operation::Embeddings, json!({"model": "sim-claude", "input": "x"}), "model"),
        (Operation::Messages, with(message("sim-claude", 5), "speed", json!("fast")), "speed"),
    ] {
        let failure = scene.invoke_as(operation, &body).await.unwrap_err();
        assert_eq!((failure.reason(), failure.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, field));
    }
    assert!(scene.siblings.reserved.lock().is_empty());
}

#[tokio::test]
async fn an_answer_that_cant_be_read_is_paid_for_and_not_told() {
    let scene = Scene::new().await;
    simulate(&scene, "body=malformed");
    let failure = scene.invoke(&of_claude(chat(5, ""))).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderFailed);
    let event = scene.settled().await;
    assert!(event.estimated && event.output_tokens == 5 && event.outcome() == Outcome::Broken);
}

#[tokio::test]
async fn a_chat_with_claude_shows_its_usage_only_to_who_asked() {
    let scene = Scene::new().await;
    let (text, ..) = scene.stream_whole(&of_claude(streamed(4, ""))).await;
    assert!(!text.contains("completion_tokens"), "{text}");
    let mut body = of_claude(streamed(4, ""));
    body["stream_options"] = json!({"include_usage": true});
    let (text, ..) = scene.stream_whole(&body).await;
    assert!(text.contains("\"completion_tokens\":4"), "{text}");
}
