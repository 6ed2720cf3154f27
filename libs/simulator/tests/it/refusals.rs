//! Errors in OpenAI's shape.

use std::time::Duration;

use serde_json::{Value, json};
use weir_simulator::{ApiKey, Options};

use crate::{Provider, asking, with};

#[tokio::test]
async fn a_missing_and_a_wrong_key_are_refused_with_401() {
    let provider = Provider::with(Options { api_keys: vec![ApiKey::new("sk-right")], ..Options::default() }).await;
    let url = format!("{}/chat/completions", provider.simulator.base_url());
    let missing = provider.client.post(&url).json(&asking("")).send().await.unwrap();
    assert_eq!(missing.status(), 401);
    let body: Value = missing.json().await.unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"]["code"].is_null());

    let wrong = provider.client.post(&url).bearer_auth("sk-very-secret-wrong").json(&asking("")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let text = wrong.text().await.unwrap();
    assert!(text.contains("invalid_api_key") && !text.contains("sk-very-secret"), "{text}");

    let right = provider.client.post(&url).bearer_auth("sk-right").json(&asking("")).send().await.unwrap();
    assert_eq!(right.status(), 200);
    assert_eq!(provider.simulator.stats().charged_requests, 1);
}

#[tokio::test]
async fn bad_requests_are_named_and_cost_nothing() {
    let provider = Provider::start().await;
    let good = asking("");
    for (body, param, code) in [
        (json!({"messages": []}), Value::Null, Value::Null),
        (json!({"model": "m"}), json!("messages"), json!("missing_required_parameter")),
        (with(good.clone(), &json!({"max_tokens": -1})), json!("max_tokens"), json!("integer_below_min_value")),
        (
            with(good.clone(), &json!({"max_completion_tokens": 99_999_999_999_u64})),
            json!("max_completion_tokens"),
            json!("integer_above_max_value"),
        ),
        (with(good.clone(), &json!({"max_tokens": "7"})), Value::Null, json!("invalid_type")),
        (with(good.clone(), &json!({"stream_options": {}})), json!("stream_options"), Value::Null),
        (asking("unheard_of=1"), json!("metadata"), Value::Null),
    ] {
        let response = provider.chat(&body).await;
        assert_eq!(response.status(), 400, "{body}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert_eq!((&answer["error"]["param"], &answer["error"]["code"]), (&param, &code), "{body}");
    }
    let malformed = provider.post("/v1/chat/completions").body("{\"model\":").send().await.unwrap();
    assert_eq!(malformed.status(), 400);
    assert!(malformed.text().await.unwrap().contains("could not parse the JSON"));
    assert_eq!(provider.get("/v1/nothing").send().await.unwrap().status(), 404);
    let wrong_method = provider.get("/v1/chat/completions").send().await.unwrap();
    assert_eq!((wrong_method.status().as_u16(), wrong_method.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let stats = provider.simulator.stats();
    assert_eq!((stats.charged_requests, stats.input_tokens, stats.output_tokens), (0, 0, 0));
    assert_eq!(stats.statuses.values().sum::<u64>(), stats.requests);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_413() {
    let provider = Provider::with(Options { max_body_bytes: 1_000, ..Options::default() }).await;
    let response = provider.post("/v1/chat/completions").body(vec![b' '; 2_000]).send().await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn the_limit_of_a_key_is_exact_within_a_sliding_window() {
    let options = Options {
        api_keys: vec![ApiKey::limited("sk-test-0001", 3), ApiKey::new("sk-free")],
        rate_window: Duration::from_millis(600),
        ..Options::default()
    };
    let provider = Provider::with(options).await;
    for left in ["2", "1", "0"] {
        let response = provider.chat(&asking("")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], left);
    }
    let refused = provider.chat(&asking("")).await;
    assert_eq!(refused.status(), 429);
    let millis: u64 = refused.headers()["retry-after-ms"].to_str().unwrap().parse().unwrap();
    assert!(millis > 0 && millis <= 600, "{millis}");
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&json!("requests"), &json!("rate_limit_exceeded")));

    let url = format!("{}/chat/completions", provider.simulator.base_url());
    let other = provider.client.post(url).bearer_auth("sk-free").json(&asking("")).send().await.unwrap();
    assert_eq!(other.status(), 200);
    tokio::time::sleep(Duration::from_millis(millis + 1)).await;
    assert_eq!(provider.chat(&asking("")).await.status(), 200);
}
