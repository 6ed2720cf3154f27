//! Results that are sent instead of fetched, signed as FAL signs them: Ed25519 over the request id, the user id, the time in
//! seconds and the SHA-256 of the body, one a line (<https://docs.fal.ai/model-endpoints/webhooks>).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::job::{Job, Phase};
use crate::Error;

/// How often a delivery is tried, and how long each try may take, as at FAL; the pauses between are shorter here.
const TRIES: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const USER: &str = "simulated-user";

/// The provider's key.
#[derive(Debug)]
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(crate) fn new() -> Result<Self, Error> {
        let broken = || Error::Options("no key can be made to sign webhooks with".to_owned());
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| broken())?;
        Ed25519KeyPair::from_pkcs8(document.as_ref()).map(Self).map_err(|_| broken())
    }

    pub(crate) fn jwks(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": x}]})
    }

    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let message = format!("{id}\n{USER}\n{timestamp}\n{}", hex(digest(&SHA256, body).as_ref()));
        hex(self.0.sign(message.as_bytes()).as_ref())
    }
}

/// Where a result is sent to.
#[derive(Debug)]
pub(crate) struct Webhook(Uri);

impl Webhook {
    /// Reads the query's percent-encoded URL; only plain HTTP, which is all that tests need.
    pub(crate) fn to(encoded: &str) -> Option<Self> {
        let uri: Uri = decode(encoded)?.parse().ok()?;
        (uri.scheme_str() == Some("http") && uri.host().is_some()).then_some(Self(uri))
    }

    /// Sends the result until it is accepted, or too often in vain.
    pub(crate) async fn deliver(&self, signer: &Signer, job: &Job) {
        let (status, payload, error) = match job.phase() {
            Phase::Done { result, .. } => ("OK", (*result).clone(), Value::Null),
            Phase::Failed { message, .. } => ("ERROR", json!({"detail": message}), Value::from(message)),
            Phase::Queued | Phase::Running => return,
        };
        let mut body = json!({
            "request_id": job.id, "gateway_request_id": job.id, "status": status, "payload": payload,
        });
        if !error.is_null() {
            body["error"] = error;
        }
        let body = Bytes::from(body.to_string());
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            if matches!(tokio::time::timeout(TIMEOUT, self.post(signer, job, &body)).await, Ok(Some(()))) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tracing::debug!(request = job.id, "a webhook was not accepted");
    }

    async fn post(&self, signer: &Signer, job: &Job, body: &Bytes) -> Option<()> {
        let authority = self.0.authority()?;
        let stream = TcpStream::connect((self.0.host()?, authority.port_u16().unwrap_or(80))).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = self.0.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("x-fal-webhook-request-id", &job.id)
            .header("x-fal-webhook-user-id", USER)
            .header("x-fal-webhook-timestamp", timestamp)
            .header("x-fal-webhook-signature", signer.sign(&job.id, timestamp, body))
            .body(Full::new(body.clone()))
            .ok()?;
        tokio::select! {
            response = sender.send_request(request) => response.ok()?.status().is_success().then_some(()),
            _ = connection => None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, _) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                (tail, ())
            }
            (byte, tail) => {
                bytes.push(*byte);
                (tail, ())
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_a_percent_encoded_http_url() {
        let webhook = Webhook::to("http%3A%2F%2F127.0.0.1%3A80%2Fhook%3Fa%3D1").map(|hook| hook.0.to_string());
        assert_eq!(webhook.as_deref(), Some("http://127.0.0.1:80/hook?a=1"));
        for wrong in ["", "ftp%3A%2F%2Fx", "%zz", "https://x"] {
            assert!(Webhook::to(wrong).is_none(), "{wrong}");
        }
    }
}
