//! The routes under `/simulator/`.

use serde_json::{Value, json};
use weir_simulator::{Options, Served, Stats};

use crate::{Provider, asking, settled};

#[tokio::test]
async fn stats_and_log_are_served_and_reset() {
    let provider = Provider::start().await;
    for _ in 0..3 {
        provider.chat(&asking("output_tokens=2")).await.text().await.unwrap();
    }
    provider.chat(&asking("status=500")).await;
    settled(&provider.simulator).await;
    let stats: Stats = provider.get("/simulator/stats").send().await.unwrap().json().await.unwrap();
    assert_eq!((stats.requests, stats.charged_requests, stats.input_tokens, stats.output_tokens), (4, 3, 15, 6));
    assert_eq!((stats.statuses[&200], stats.statuses[&500], stats.keys["…0001"]), (3, 1, 4));
    assert_eq!(stats, provider.simulator.stats());

    let text = provider.get("/simulator/served?after=2").send().await.unwrap().text().await.unwrap();
    let served: Vec<Served> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(served.iter().map(|served| (served.sequence, served.status)).collect::<Vec<_>>(), [(3, 200), (4, 500)]);
    assert_eq!((served[0].client_request_id.as_str(), served[0].operation.as_str()), ("request-1", "chat.completions"));
    assert_eq!(provider.get("/simulator/served?page=1").send().await.unwrap().status(), 400);

    provider.post("/simulator/reset").send().await.unwrap();
    let stats = provider.simulator.stats();
    assert_eq!((stats.requests, stats.statuses.len(), provider.simulator.served().len()), (0, 0, 0));
}

#[tokio::test]
async fn faults_are_set_listed_and_ended_over_http() {
    let provider = Provider::start().await;
    let set = async |body: Value| provider.post("/simulator/faults").json(&body).send().await.unwrap().status();
    assert_eq!(set(json!({"simulate": "status=429,retry_after=1", "times": 1})).await, 200);
    let listed: Value = provider.get("/simulator/faults").send().await.unwrap().json().await.unwrap();
    assert_eq!(listed[0]["simulate"], "status=429,retry_after=1");
    assert_eq!(provider.chat(&asking("")).await.status(), 429);
    assert_eq!(provider.chat(&asking("")).await.status(), 200);
    assert_eq!(set(json!({"simulate": "status=abc"})).await, 400);
    assert_eq!(set(json!({"simulate": "status=500", "key": "x"})).await, 400);
    assert_eq!(set(json!({"simulate": "status=500", "percent": 50})).await, 200);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(provider.chat(&asking("")).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 500, 200, 500]);
    let address = provider.simulator.addr();
    provider.client.delete(format!("http://{address}/simulator/faults")).send().await.unwrap();
    assert_eq!(provider.chat(&asking("")).await.status(), 200);
}

#[tokio::test]
async fn the_log_is_bounded_and_the_totals_are_not() {
    let provider = Provider::with(Options { log_capacity: 2, ..Options::default() }).await;
    for _ in 0..5 {
        provider.chat(&asking("")).await.text().await.unwrap();
    }
    let sequences: Vec<u64> = provider.simulator.served().iter().map(|served| served.sequence).collect();
    assert_eq!(sequences, [4, 5]);
    assert_eq!(provider.simulator.stats().charged_requests, 5);
}
