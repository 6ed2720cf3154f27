//! Bodies that are too large, too slow or never read.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_proto::broker::v1::{InvokeRequest, InvokeResponse};

use crate::answers::{openai_error, problem};
use crate::fixtures::INVOKE;
use crate::raw::Raw;
use crate::scene::{KEY, Scene};

async fn scene() -> Scene {
    let scene = Scene::with("max_body_bytes = 100000\nbody_pause = \"1s\"").await;
    scene.siblings.answer(INVOKE, InvokeResponse { body: "{}".into(), ..InvokeResponse::default() });
    scene
}

#[tokio::test]
async fn a_stated_size_over_the_limit_is_refused_before_the_body_is_sent() {
    let scene = scene().await;
    let mut raw = Raw::chat(&scene, "content-length: 100001\r\nexpect: 100-continue\r\n").await;
    let (status, text) = raw.answer().await;
    assert_eq!(status, 413, "{text}");
    let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "too_large");
    assert_eq!(body["error"]["message"], "The body is larger than 100000 bytes.");
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_as_soon_as_it_is_too_large() {
    let scene = scene().await;
    let mut raw = Raw::chat(&scene, "transfer-encoding: chunked\r\n").await;
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for _ in 0..4 {
        raw.send(chunk.as_bytes()).await.unwrap();
    }
    assert_eq!(raw.answer().await.0, 413);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_whole_in_pieces() {
    let scene = scene().await;
    let body = "y".repeat(100_000);
    let mut raw = Raw::chat(&scene, "content-length: 100000\r\n").await;
    for piece in body.as_bytes().chunks(7001) {
        raw.send(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(raw.answer().await.0, 200);
    let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert!(asked.body == body.as_bytes());
}

#[tokio::test]
async fn clients_that_send_everything_first_still_get_the_refusal() {
    let scene = scene().await;
    let body = vec![b'x'; 8 << 20];
    for (key, expected) in [(KEY, 413), ("weir_wrong", 401)] {
        let mut raw = Raw::open(&scene, "POST /v1/chat/completions", key, "content-length: 8388608\r\n").await;
        raw.send(&body).await.unwrap();
        // Whoever sends so much does other things before reading, too.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(raw.answer().await.0, expected);
        // The connection goes on.
        let next = format!("GET /v1/nothing HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\n\r\n");
        raw.send(next.as_bytes()).await.unwrap();
        assert_eq!(raw.answer().await.0, 404);
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let scene = scene().await;
    let mut raw = Raw::chat(&scene, "content-length: 1000\r\n").await;
    let start = Instant::now();
    for _ in 0..4 {
        // Slow is not too slow.
        raw.send(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let (status, text) = raw.answer().await;
    assert_eq!(status, 408, "{text}");
    assert!(start.elapsed() >= Duration::from_millis(1_800), "{:?}", start.elapsed());
    assert_eq!(scene.siblings.count(INVOKE), 0);
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let scene = scene().await;
    let mut raw = Raw::open(&scene, "POST /v1/chat/completions", "weir_wrong", "content-length: 90000\r\n").await;
    assert_eq!(raw.answer().await.0, 401);
    let mut raw = Raw::open(&scene, "POST /api/v1/keys", "weir_wrong", "content-length: 30000\r\n").await;
    assert_eq!(raw.answer().await.0, 401);
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such() {
    let scene = scene().await;
    let request = scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).header("content-encoding", "gzip");
    let (status, error) = openai_error(request.body("{}").send().await.unwrap()).await;
    assert_eq!((status, error["code"].as_str()), (415, Some("encoding_not_supported")));
    let request = scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).header("content-encoding", "identity");
    assert_eq!(request.body("{}").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn our_own_api_takes_small_bodies_only() {
    let scene = scene().await;
    let request = scene.request("POST", "/api/v1/keys").bearer_auth(KEY).body("x".repeat((64 << 10) + 1));
    let (status, body) = problem(request.send().await.unwrap()).await;
    assert_eq!((status, body["type"].as_str()), (413, Some("urn:weir:problem:too-large")));
}
