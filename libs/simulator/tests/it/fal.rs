//! FAL's queue.

use std::time::Duration;

use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_simulator::{Limits, Options};

use crate::{Provider, settled};

const KEY: &str = "Key fal-0001";

async fn quick() -> Provider {
    let generation = (Duration::from_millis(20), Duration::from_millis(40));
    Provider::with(Options { generation, runners: 1, ..Options::default() }).await
}

async fn submit(provider: &Provider, query: &str, simulate: &str) -> reqwest::Response {
    let url = format!("http://{}/fal-ai/flux/dev{query}", provider.simulator.addr());
    let request = provider.client.post(url).header("authorization", KEY).header("x-simulate", simulate);
    request
        .header("x-client-request-id", "request-1")
        .json(&json!({"prompt": "a gold ring", "image_size": {"width": 64, "height": 32}, "num_images": 2}))
        .send()
        .await
        .unwrap()
}

async fn get(provider: &Provider, url: &Value) -> (u16, Value) {
    let request = provider.client.get(url.as_str().unwrap()).header("authorization", KEY);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn completed(provider: &Provider, job: &Value) -> Value {
    loop {
        let (status, body) = get(provider, &job["status_url"]).await;
        if body["status"] == "COMPLETED" {
            assert_eq!(status, 200);
            return body;
        }
        assert_eq!(status, 202);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_stands_in_line_and_ends_with_pictures() {
    let provider = quick().await;
    let job: Value = submit(&provider, "", "").await.json().await.unwrap();
    assert_eq!(job["status"], "IN_QUEUE");
    assert!(job["response_url"].as_str().unwrap().contains("/fal-ai/flux/requests/"));
    let done = completed(&provider, &job).await;
    assert!(done["metrics"]["inference_time"].as_f64().unwrap() >= 0.02);
    let (status, result) = get(&provider, &job["response_url"]).await;
    assert_eq!((status, result["images"].as_array().unwrap().len()), (200, 2));
    assert_eq!((&result["images"][0]["width"], &result["prompt"]), (&json!(64), &json!("a gold ring")));
    let picture = provider.client.get(result["images"][1]["url"].as_str().unwrap()).send().await.unwrap();
    assert!(picture.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(picture.headers()["content-type"], "image/png");
    let served = &provider.simulator.served_as("request-1")[0];
    assert_eq!((served.operation.as_str(), served.model.as_str()), ("queue.submit", "fal-ai/flux/dev"));
    assert_eq!((served.images, served.charged, served.finished), (2, true, true));
}

#[tokio::test]
async fn positions_count_down_and_the_first_comes_first() {
    let provider = quick().await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(submit(&provider, "", "generation_ms=600000").await.json::<Value>().await.unwrap());
    }
    // The one that is worked on makes room for the next only when it is cancelled.
    for first in 0..jobs.len() {
        while get(&provider, &jobs[first]["status_url"]).await.1["status"] != "IN_PROGRESS" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (ahead, job) in jobs[first + 1..].iter().enumerate() {
            let (status, body) = get(&provider, &job["status_url"]).await;
            assert_eq!((status, &body["status"], &body["queue_position"]), (202, &json!("IN_QUEUE"), &json!(ahead)));
        }
        let cancel = jobs[first]["cancel_url"].as_str().unwrap();
        provider.client.put(cancel).header("authorization", KEY).send().await.unwrap();
    }
}

#[tokio::test]
async fn only_submissions_count_against_the_rate() {
    let generation = (Duration::ZERO, Duration::ZERO);
    let options = Options { generation, limits: Limits::requests(2), ..Options::default() };
    let provider = Provider::with(options).await;
    let job: Value = submit(&provider, "", "").await.json().await.unwrap();
    submit(&provider, "", "").await;
    let refused = submit(&provider, "", "").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["error_type"], "rate_limited");
    completed(&provider, &job).await;
}

#[tokio::test]
async fn a_request_is_cancelled_before_and_while_it_is_worked_on() {
    let provider = quick().await;
    let running: Value = submit(&provider, "", "generation_ms=60000").await.json().await.unwrap();
    let queued: Value = submit(&provider, "", "generation_ms=60000").await.json().await.unwrap();
    let cancel = async |url: &Value| {
        let response = provider.client.put(url.as_str().unwrap()).header("authorization", KEY).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["status"].clone())
    };
    for job in [&queued, &running] {
        assert_eq!(cancel(&job["cancel_url"]).await, (202, json!("CANCELLATION_REQUESTED")));
        assert_eq!(completed(&provider, job).await["error_type"], "client_cancelled");
        assert_eq!(cancel(&job["cancel_url"]).await, (400, json!("ALREADY_COMPLETED")));
    }
    let unknown = format!("http://{}/fal-ai/flux/requests/none/cancel", provider.simulator.addr());
    assert_eq!(cancel(&json!(unknown)).await, (404, json!("NOT_FOUND")));
    assert_eq!(settled(&provider.simulator).await.images, 0);
    let other = provider.client.get(queued["status_url"].as_str().unwrap()).header("authorization", "Key other");
    assert_eq!(other.send().await.unwrap().status(), 404, "another key sees nothing of it");
}

#[tokio::test]
async fn a_picture_that_fails_is_completed_with_an_error_and_costs_nothing() {
    let provider = quick().await;
    let job: Value = submit(&provider, "", "error_after=1,generation_ms=1000").await.json().await.unwrap();
    assert_eq!(get(&provider, &job["response_url"]).await.0, 400, "still in progress");
    assert_eq!(completed(&provider, &job).await["error_type"], "internal_server_error");
    assert_eq!(get(&provider, &job["response_url"]).await.0, 500);
    assert_eq!(submit(&provider, "", "status=503").await.status(), 503);
    assert_eq!(settled(&provider.simulator).await.charged_requests, 0);
}

/// Takes one request, and answers it with this status.
async fn take(listener: &TcpListener, status: u16) -> (String, Vec<u8>) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    loop {
        socket.read_buf(&mut seen).await.unwrap();
        let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(seen[..end].to_vec()).unwrap();
        let length: usize = field(&head, "content-length").parse().unwrap();
        if seen.len() >= end + 4 + length {
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            return (head, seen[end + 4..].to_vec());
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

#[tokio::test]
async fn a_webhook_is_signed_and_sent_until_it_is_accepted() {
    let provider = quick().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("?fal_webhook=http%3A%2F%2F{}%2Fdone", listener.local_addr().unwrap());
    let job: Value = submit(&provider, &hook, "").await.json().await.unwrap();
    let (_, refused) = take(&listener, 500).await;
    let (head, body) = take(&listener, 200).await;
    assert_eq!(refused, body);
    assert!(head.starts_with("POST /done HTTP/1.1"));
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&told["request_id"], &told["status"]), (&job["request_id"], &json!("OK")));
    assert_eq!(told["payload"]["images"].as_array().unwrap().len(), 2);

    let jwks = format!("http://{}/.well-known/jwks.json", provider.simulator.addr());
    let jwks: Value = provider.client.get(jwks).send().await.unwrap().json().await.unwrap();
    let key = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        jwks["keys"][0]["x"].as_str().unwrap(),
    );
    let hex: String = digest(&SHA256, &body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = format!(
        "{}\n{}\n{}\n{hex}",
        field(&head, "x-fal-webhook-request-id"),
        field(&head, "x-fal-webhook-user-id"),
        field(&head, "x-fal-webhook-timestamp")
    );
    let signature = field(&head, "x-fal-webhook-signature");
    let signature: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    let key = UnparsedPublicKey::new(&ED25519, key.unwrap());
    assert!(key.verify(signed.as_bytes(), &signature).is_ok());
    assert!(key.verify(format!("{signed} ").as_bytes(), &signature).is_err());
}
