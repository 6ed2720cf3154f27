//! What is answered, recorded and committed when all goes well.

use serde_json::{Value, json};
use weir_proto::usage::v1::Outcome;

use crate::scene::{Scene, chat};

#[tokio::test]
async fn a_call_is_reserved_answered_recorded_and_committed() {
    let scene = Scene::new().await;
    let answer = scene.invoke(&chat(7, "")).await.unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["usage"]["completion_tokens"], 7);

    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (5, 7, false));
    assert_eq!(event.cost_nano_usd, 5 * 150 + 7 * 600);
    assert_eq!((event.outcome(), event.price_version.as_str()), (Outcome::Complete, "2026-11-01"));

    let accounting = answer.accounting.unwrap();
    assert_eq!((accounting.cost_nano_usd, accounting.attempts), (event.cost_nano_usd, 1));
    assert_eq!(accounting.rate_limits.iter().map(|limit| limit.remaining).collect::<Vec<_>>(), [99, 60]);
    assert_eq!(scene.provider.served_as(&event.event_id).len(), 1, "the provider is told our id");
}

#[tokio::test]
async fn what_is_reserved_is_never_less_than_what_is_used() {
    let scene = Scene::new().await;
    scene.invoke(&chat(7, "")).await.unwrap();
    let event = scene.settled().await;
    let reserved = scene.siblings.reserved.lock();
    let amounts = &reserved[&event.event_id].amounts;
    let amount = |unit: &str| amounts.iter().find(|amount| amount.unit == unit).unwrap().value;
    assert!(amount("input_token") >= event.input_tokens && amount("output_token") >= event.output_tokens);
    assert!(amount("nano_usd") >= event.cost_nano_usd);
    assert_eq!((amount("request"), amount("concurrent")), (1, 1));
}

#[tokio::test]
async fn an_alias_calls_its_model_within_its_own_bound() {
    let scene = Scene::new().await;
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    let answer = scene.invoke(&body).await.unwrap();
    let event = scene.settled().await;
    assert_eq!((event.model.as_str(), event.output_tokens), ("sim-small", 32));
    assert_eq!(answer.accounting.unwrap().model, "sim-small");
}

#[tokio::test]
async fn cached_input_costs_what_the_list_says() {
    let scene = Scene::new().await;
    scene.invoke(&chat(1, "cached_tokens=4")).await.unwrap();
    let event = scene.settled().await;
    assert_eq!(event.cached_input_tokens, 4);
    assert_eq!(event.cost_nano_usd, 150 + 4 * 75 + 600);
}

#[tokio::test]
async fn an_answer_without_a_count_is_estimated() {
    let scene = Scene::new().await;
    scene.invoke(&chat(5, "usage=none")).await.unwrap();
    let event = scene.settled().await;
    assert!(event.estimated && event.output_tokens == 5 && event.input_tokens > 0, "{event:?}");
}

#[tokio::test]
async fn the_models_on_offer_are_those_of_the_plan() {
    let scene = Scene::new().await;
    assert_eq!(
        scene.models().await,
        [
            "dall-e-3",
            "eleven_flash_v2_5",
            "fal-ai/flux/dev",
            "fast",
            "gpt-4o-transcribe",
            "gpt-image-1",
            "sim-claude",
            "sim-large",
            "sim-small",
            "tts-1",
            "whisper-1"
        ]
    );
}

#[test]
fn every_method_has_a_row_that_says_who_may_call_it() {
    let services = ["BrokerService", "CacheService", "JobService", "ProviderKeyService", "ResultService"]
        .map(|name| format!("weir.broker.v1.{name}"));
    let mut rows = 0;
    for service in services {
        let own: Vec<_> = weir_ai_broker::ACCESS
            .iter()
            .filter(|(path, _)| path[1..].starts_with(&format!("{service}/")))
            .copied()
            .collect();
        assert_eq!(weir_rpc::uncovered(&service, &own), Vec::<String>::new());
        rows += own.len();
    }
    assert_eq!(rows, weir_ai_broker::ACCESS.len());
}
