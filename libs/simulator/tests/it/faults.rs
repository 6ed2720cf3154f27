//! What goes wrong on request.

use std::error::Error as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_simulator::Fault;

use crate::{Provider, asking, events_of, settled, with};

fn fault(api_key: Option<&str>, simulate: &str) -> Fault {
    Fault { api_key: api_key.map(str::to_owned), simulate: simulate.parse().unwrap(), ..Fault::default() }
}

#[tokio::test]
async fn a_status_comes_with_its_error_and_retry_after_and_costs_nothing() {
    let provider = Provider::start().await;
    for (status, kind) in
        [(401, "invalid_request_error"), (402, "insufficient_quota"), (500, "server_error"), (503, "server_error")]
    {
        let response = provider.chat(&asking(&format!("status={status}"))).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], kind);
    }
    let limited = provider.chat(&asking("status=429,retry_after=1.5")).await;
    assert_eq!(
        (limited.headers()["retry-after"].to_str().unwrap(), limited.headers()["retry-after-ms"].to_str().unwrap()),
        ("2", "1500")
    );
    let broke = provider.chat(&asking("status=429,code=insufficient_quota")).await;
    assert_eq!(broke.json::<Value>().await.unwrap()["error"]["type"], "insufficient_quota");
    assert_eq!(provider.simulator.stats().charged_requests, 0);
}

#[tokio::test]
async fn the_first_requests_fail_and_then_the_same_request_succeeds() {
    let provider = Provider::start().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(provider.chat(&asking("status=500,fail_times=2,output_tokens=3,tag=a")).await.status().as_u16());
    }
    assert_eq!(statuses, [500, 500, 200, 200]);
    assert_eq!(provider.chat(&asking("status=500,fail_times=2,tag=b")).await.status(), 500);
    assert_eq!(provider.simulator.stats().output_tokens, 6);
}

#[tokio::test]
async fn spoilt_bodies_are_charged_because_the_work_was_done() {
    let provider = Provider::start().await;
    let html = provider.chat(&asking("body=html")).await;
    assert!(html.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(html.text().await.unwrap().contains("<html>"));
    let malformed = provider.chat(&asking("body=malformed")).await.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&malformed).is_err());
    let empty = provider.chat(&asking("body=empty")).await;
    assert_eq!((empty.status().as_u16(), empty.text().await.unwrap().len()), (200, 0));
    assert_eq!(provider.simulator.stats().charged_requests, 3);
    let failed = provider.chat(&asking("body=html,status=502")).await;
    assert_eq!(failed.status(), 502);
    assert_eq!(provider.simulator.stats().charged_requests, 3);
}

#[tokio::test]
async fn a_stream_is_cut_after_as_many_tokens_as_said() {
    let provider = Provider::start().await;
    let streamed = |simulate: &str| with(asking(simulate), &json!({"stream": true, "max_tokens": 20}));
    let mut response = provider.chat(&streamed("cut_after=7")).await;
    let mut text = String::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk)),
            Ok(None) => panic!("the stream ended well"),
            Err(error) => break error,
        }
    };
    assert!(error.is_body() || error.is_decode() || error.source().is_some(), "{error:?}");
    assert_eq!(events_of(&text).0.len(), 1 + 7);
    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.output_tokens, stats.abandoned), (7, 1));

    let (events, done) = provider.events(&streamed("end_after=4")).await;
    assert_eq!((events.len(), done), (5, false));
    let (events, done) = provider.events(&streamed("error_after=4")).await;
    assert_eq!((events.len(), done), (6, false));
    assert_eq!(events[5]["error"]["type"], "server_error");
    let garbage = provider.chat(&streamed("garbage_after=4")).await.text().await.unwrap();
    let unreadable = garbage.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    assert_eq!(unreadable.filter(|data| *data != "[DONE]" && serde_json::from_str::<Value>(data).is_err()).count(), 1);
    assert!(garbage.ends_with("data: [DONE]\n\n"));
    let (events, done) = provider.events(&streamed("cut_after=0,fail_times=0")).await;
    assert_eq!((events.len(), done), (22, true));
}

#[tokio::test]
async fn a_plain_body_is_cut_in_the_middle() {
    let provider = Provider::start().await;
    let response = provider.chat(&asking("cut_after=1")).await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
    assert_eq!(settled(&provider.simulator).await.charged_requests, 1);
}

/// Speaks HTTP by hand, so that the way the connection ends can be seen.
async fn raw(provider: &Provider, body: &Value) -> (Vec<u8>, std::io::Result<usize>) {
    let mut socket = tokio::net::TcpStream::connect(provider.simulator.addr()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let read = socket.read_buf(&mut seen).await;
        if !matches!(read, Ok(read) if read > 0) {
            return (seen, read);
        }
    }
}

#[tokio::test]
async fn connections_are_reset_before_or_after_the_head() {
    let provider = Provider::start().await;
    let (seen, end) = raw(&provider, &asking("reset=before")).await;
    assert!(seen.is_empty());
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(settled(&provider.simulator).await.charged_requests, 0);

    for stream in [false, true] {
        let (seen, end) = raw(&provider, &with(asking("reset=after"), &json!({"stream": stream}))).await;
        let head = String::from_utf8(seen).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(settled(&provider.simulator).await.charged_requests, 2);
}

#[tokio::test]
async fn a_hanging_request_lasts_until_the_client_leaves() {
    let provider = Provider::start().await;
    let asked = provider.post("/v1/chat/completions").json(&asking("hang=1")).timeout(Duration::from_millis(80)).send();
    assert!(asked.await.unwrap_err().is_timeout());
    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.in_flight, stats.abandoned, stats.charged_requests), (0, 1, 0));

    let mut response = provider.chat(&with(asking("hang_after=3,output_tokens=9"), &json!({"stream": true}))).await;
    let mut text = String::new();
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(Duration::from_millis(80), response.chunk()).await {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(events_of(&text).0.len(), 4);
}

#[tokio::test]
async fn a_fault_holds_for_its_key_only_and_a_request_may_override_it() {
    let provider = Provider::start().await;
    provider.simulator.add_fault(fault(Some("sk-test-0001"), "status=503"));
    assert_eq!(provider.chat(&asking("")).await.status(), 503);
    assert_eq!(provider.chat(&asking("status=500")).await.status(), 500);
    let other =
        provider.client.post(format!("{}/chat/completions", provider.simulator.base_url())).bearer_auth("sk-other");
    assert_eq!(other.json(&asking("")).send().await.unwrap().status(), 200);
    provider.simulator.clear_faults();
    assert_eq!(provider.chat(&asking("")).await.status(), 200);
}

#[tokio::test]
async fn a_fault_for_everybody_makes_all_slow() {
    let provider = Provider::start().await;
    provider.simulator.add_fault(fault(None, "latency_ms=70"));
    let start = Instant::now();
    assert_eq!(provider.get("/v1/models").send().await.unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(70));
}
