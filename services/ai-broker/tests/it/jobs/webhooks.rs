//! Webhooks: signed, retried, and sent by steps.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_proto::broker::v1::{Job, JobState, RotateWebhookSecretRequest};
use weir_proto::common::v1::ErrorReason;
use weir_simulator::Options;
use weir_types::names;

use super::{House, invoke, one_step, result, webhook};
use crate::scene::{Scene, chat};

/// What a receiver got.
#[derive(Debug, Clone)]
struct Received {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks it as a receiver with this secret would.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let content = [self.headers["webhook-id"].as_bytes(), b".", self.headers["webhook-timestamp"].as_bytes(), b"."];
        let content = [&content.concat(), self.body.as_slice()].concat();
        let expected = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &content));
        self.headers["webhook-signature"].split(' ').any(|one| one == format!("v1,{expected}"))
    }
}

/// Answers each webhook with the next of `statuses`, the last one for ever.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, statuses, &log).await;
            }
        });
        Self { url, received }
    }
}

async fn serve(mut stream: TcpStream, statuses: &[u16], log: &Mutex<Vec<Received>>) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let headers: HashMap<_, _> = lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            let length: usize = headers["content-length"].parse().unwrap();
            bytes.drain(..end + 4);
            break (headers, length);
        }
    };
    while bytes.len() < length {
        stream.read_buf(&mut bytes).await.unwrap();
    }
    let status = {
        let mut log = log.lock();
        log.push(Received { headers: head, body: bytes });
        statuses[(log.len() - 1).min(statuses.len() - 1)]
    };
    let answer = format!(
        "HTTP/1.1 {status} Said\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

async fn rotate(scene: &Scene, overlap_seconds: i64) -> String {
    let request = RotateWebhookSecretRequest {
        parent: names::organization(&scene.organization),
        overlap: Some(prost_types::Duration { seconds: overlap_seconds, nanos: 0 }),
    };
    scene.jobs.clone().rotate_webhook_secret(scene.bearer.request(request)).await.unwrap().into_inner().secret
}

#[tokio::test]
async fn a_jobs_end_is_told_signed_until_it_is_received_under_the_same_id() {
    let House { scene, .. } = &House::with(Options::default(), "jobs.webhooks.backoff = \"10ms\"").await;
    let old = rotate(scene, 0).await;
    let new = rotate(scene, 3600).await;
    let receiver = Receiver::start(&[500, 302, 204]).await;
    let job = scene.create(Job { webhook_url: receiver.url.clone(), ..one_step("") }).await;
    scene.eventually("it is received", async |_| receiver.received.lock().len() >= 3).await;
    let received = receiver.received.lock().clone();
    let ids: Vec<_> = received.iter().map(|one| &one.headers["webhook-id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.starts_with("msg_")), "{ids:?}");
    let last = received.last().unwrap();
    assert!(last.is_signed_with(&new) && last.is_signed_with(&old), "both sign for the overlap");
    let told = last.json();
    assert_eq!((&told["type"], &told["data"]["name"]), (&json!("job.complete"), &json!(job.name)));
    let newest = rotate(scene, 0).await;
    let failed = Job { webhook_url: receiver.url.clone(), ..one_step("status=400") };
    scene.create(failed).await;
    scene.eventually("the failure is told", async |_| receiver.received.lock().len() >= 4).await;
    let last = receiver.received.lock().last().unwrap().clone();
    assert!(last.is_signed_with(&newest) && !last.is_signed_with(&new));
    assert_eq!(last.json()["type"], "job.failed");
    assert_eq!(last.json()["data"]["error"]["reason"], "PROVIDER_REJECTED");
}

#[tokio::test]
async fn a_step_sends_what_an_earlier_one_said_and_is_retried_by_itself() {
    let House { scene, .. } = &House::new().await;
    let receiver = Receiver::start(&[503, 200]).await;
    let body = json!({"text": {"$from": "write#/choices/0/message/content"}});
    let steps = vec![invoke("write", &chat(3, "")), webhook("notify", &receiver.url, &body)];
    let job = scene.create(Job { steps, ..Job::default() }).await;
    let job = scene.reaches(&job.name, JobState::Complete).await;
    assert_eq!(job.steps[1].result.as_ref().unwrap().attempts, 2);
    let received = receiver.received.lock().clone();
    let said = &result(&job, 0)["choices"][0]["message"]["content"];
    assert_eq!((received.len(), &received[1].json()["text"]), (2, said));
    assert_eq!(received[0].headers["webhook-id"], received[1].headers["webhook-id"]);
    assert_eq!(scene.answered(), 1, "the first step was done once");
}

#[tokio::test]
async fn addresses_inside_are_refused() {
    let settings = super::QUICK.replace("allow_private = true", "allow_private = false");
    let admin = crate::database::database().await;
    let provider = Arc::new(weir_simulator::Simulator::start(Options::default()).await.unwrap());
    let scene = Scene::with_jobs(&provider, crate::database::connect(&admin.url).await, &settings).await;
    let receiver = Receiver::start(&[200]).await;
    let port = receiver.url.rsplit_once(':').unwrap().1;
    for url in [receiver.url.clone(), format!("https://127.0.0.1:{port}"), format!("https://localhost:{port}")] {
        let mut step = webhook("notify", &url, &json!({}));
        step.max_attempts = 1;
        let job = scene.create(Job { steps: vec![step], ..Job::default() }).await;
        let job = scene.reaches(&job.name, JobState::Failed).await;
        let error = job.error.unwrap();
        assert!(
            matches!(error.reason(), ErrorReason::InvalidArgument | ErrorReason::ProviderFailed),
            "{url}: {error:?}"
        );
    }
    assert!(receiver.received.lock().is_empty());
}
