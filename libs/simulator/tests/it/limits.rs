//! Limits on tokens and on what is under way at once.

use serde_json::{Value, json};
use weir_simulator::{ApiKey, Limits, Options};

use crate::{Provider, asking, settled, with};

#[tokio::test]
async fn openai_counts_input_and_the_most_output_together() {
    let limits = Limits { tokens: Some(100), ..Limits::default() };
    let provider = Provider::with(Options { limits, ..Options::default() }).await;
    let ask = async |most: u64| provider.chat(&with(asking(""), &json!({"max_tokens": most}))).await;
    let first = ask(50).await;
    assert_eq!(first.headers()["x-ratelimit-limit-tokens"], "100");
    assert_eq!(first.headers()["x-ratelimit-remaining-tokens"], "45");
    let refused = ask(41).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["type"], "tokens");
    assert_eq!(ask(40).await.status(), 200);
    let large = ask(500).await.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(large.starts_with("Request too large"), "{large}");
}

#[tokio::test]
async fn anthropic_counts_input_and_output_apart() {
    let limits = Limits { input_tokens: Some(12), output_tokens: Some(100), ..Limits::default() };
    let provider =
        Provider::with(Options { api_keys: vec![ApiKey { secret: "k".into(), limits }], ..Options::default() }).await;
    let ask = async |most: u64| {
        let body = json!({"model": "m", "max_tokens": most,
            "messages": [{"role": "user", "content": "how high is the water"}]});
        let url = format!("http://{}/v1/messages", provider.simulator.addr());
        let request = provider.client.post(url).header("x-api-key", "k").header("anthropic-version", "2023-06-01");
        request.json(&body).send().await.unwrap()
    };
    let first = ask(40).await;
    assert_eq!(first.headers()["anthropic-ratelimit-input-tokens-remaining"], "7");
    assert_eq!(first.headers()["anthropic-ratelimit-output-tokens-remaining"], "60");
    let refused = ask(61).await;
    assert!(refused.headers().contains_key("retry-after"));
    let message = refused.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("100 output tokens per minute"), "{message}");
    assert_eq!(ask(60).await.status(), 200);
    let message = ask(1).await.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("12 input tokens"), "{message}");
}

#[tokio::test]
async fn a_key_has_no_more_under_way_than_it_may() {
    let limits = Limits { concurrent: Some(2), ..Limits::default() };
    let provider = Provider::with(Options { limits, ..Options::default() }).await;
    let hanging = with(asking("hang_after=1"), &json!({"stream": true}));
    let first = provider.chat(&hanging).await;
    let second = provider.chat(&hanging).await;
    assert_eq!(provider.chat(&asking("")).await.status(), 429);
    drop(first);
    drop(second);
    settled(&provider.simulator).await;
    assert_eq!(provider.chat(&asking("")).await.status(), 200);
}
