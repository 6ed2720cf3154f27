//! ElevenLabs' speech.

use serde_json::{Value, json};
use weir_simulator::{Limits, Options};

use crate::{Provider, settled};

const VOICE: &str = "21m00Tcm4TlvDq8ikWAM";

async fn speak(provider: &Provider, path: &str, body: &Value, simulate: &str) -> reqwest::Response {
    let url = format!("http://{}/v1/text-to-speech/{path}", provider.simulator.addr());
    let request = provider.client.post(url).header("xi-api-key", "el-0001").header("x-client-request-id", "request-1");
    request.header("x-simulate", simulate).json(body).send().await.unwrap()
}

async fn status_of(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["detail"]["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn characters_are_counted_and_told() {
    let provider = Provider::start().await;
    let body = json!({"text": "Grüße aus Köln", "model_id": "eleven_multilingual_v2"});
    let response = speak(&provider, VOICE, &body, "").await;
    assert_eq!(response.headers()["content-type"], "audio/mpeg");
    assert_eq!(response.headers()["character-cost"], "14");
    assert!(response.headers().contains_key("request-id"));
    assert_eq!(response.bytes().await.unwrap().len(), 3 * 15 * 417);
    let flash = json!({"text": "Grüße aus Köln!", "model_id": "eleven_flash_v2_5"});
    let response = speak(&provider, &format!("{VOICE}/stream?output_format=pcm_24000"), &flash, "").await;
    assert_eq!(response.headers()["character-cost"], "8");
    assert_eq!(response.bytes().await.unwrap().len(), 3 * 19_200);
    let served = provider.simulator.served_as("request-1");
    assert_eq!((served[0].characters, served[1].characters, served[1].streamed), (14, 15, true));
    assert_eq!(settled(&provider.simulator).await.characters, 29);
}

#[tokio::test]
async fn credits_run_out_and_are_not_overspent() {
    let provider = Provider::with(Options { characters: Some(10), ..Options::default() }).await;
    let ask = async |text: &str| status_of(speak(&provider, VOICE, &json!({"text": text}), "").await).await;
    assert_eq!(speak(&provider, VOICE, &json!({"text": "sixsix"}), "").await.status(), 200);
    assert_eq!(ask("sixsix").await, (401, "quota_exceeded".to_owned()));
    assert_eq!(speak(&provider, VOICE, &json!({"text": "four"}), "").await.status(), 200);
    assert_eq!(ask("x").await, (401, "quota_exceeded".to_owned()));
    assert_eq!(settled(&provider.simulator).await.characters, 10);
}

#[tokio::test]
async fn no_more_are_under_way_than_the_plan_allows() {
    let limits = Limits { concurrent: Some(1), ..Limits::default() };
    let provider = Provider::with(Options { limits, ..Options::default() }).await;
    let body = json!({"text": "one two three"});
    let first = speak(&provider, VOICE, &body, "hang_after=1").await;
    assert_eq!(first.headers()["current-concurrent-requests"], "1");
    assert_eq!(first.headers()["maximum-concurrent-requests"], "1");
    let second = status_of(speak(&provider, VOICE, &body, "").await).await;
    assert_eq!(second, (429, "too_many_concurrent_requests".to_owned()));
    drop(first);
    settled(&provider.simulator).await;
    assert_eq!(speak(&provider, VOICE, &body, "").await.status(), 200);
}

#[tokio::test]
async fn errors_have_its_shape() {
    let provider = Provider::start().await;
    let text = json!({"text": "x"});
    let ask =
        async |path: &str, body: &Value, simulate: &str| status_of(speak(&provider, path, body, simulate).await).await;
    assert_eq!(ask("nobody", &text, "").await, (404, "voice_not_found".to_owned()));
    let long = json!({"text": "x".repeat(10_001)});
    assert_eq!(ask(VOICE, &long, "").await, (400, "max_character_limit_exceeded".to_owned()));
    assert_eq!(ask(VOICE, &text, "status=429").await, (429, "system_busy".to_owned()));
    assert_eq!(ask(VOICE, &text, "status=401").await, (401, "invalid_api_key".to_owned()));
    let missing = speak(&provider, VOICE, &json!({}), "").await;
    assert_eq!(missing.status(), 422);
    assert_eq!(missing.json::<Value>().await.unwrap()["detail"][0]["loc"], json!(["body", "text"]));
    let url = format!("http://{}/v1/text-to-speech/{VOICE}", provider.simulator.addr());
    let no_key = provider.client.post(url).bearer_auth("k").json(&text).send().await.unwrap();
    assert_eq!(no_key.status(), 401);
    assert_eq!(provider.simulator.stats().charged_requests, 0);
}
