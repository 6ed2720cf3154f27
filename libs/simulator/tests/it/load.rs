//! Many connections at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{Provider, asking, settled, with};

#[tokio::test]
async fn five_hundred_streams_at_once_are_all_counted() {
    let provider = Provider::start().await;
    let body = with(asking("chunk_ms=2,output_tokens=25"), &json!({"stream": true}));
    let streams = join_all((0..500).map(|_| provider.events(&body))).await;
    assert!(streams.iter().all(|(events, done)| *done && events.len() == 27));
    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.charged_requests, stats.output_tokens, stats.in_flight), (500, 12_500, 0));
}

#[tokio::test]
async fn stopping_closes_every_connection() {
    let provider = Provider::start().await;
    let hanging = provider.post("/v1/chat/completions").json::<Value>(&asking("hang=1")).send();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        provider.simulator.stop().await;
    };
    let (hung, ()) = tokio::join!(hanging, stop);
    assert!(hung.is_err());
    assert!(provider.get("/v1/models").send().await.is_err());
}
