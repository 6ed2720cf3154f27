//! A small S3: one bucket behind a real socket, that checks who asks and can fail.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) const KEY_ID: &str = "AKIATEST";

/// An object as it was put.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Mutex<BTreeMap<String, Object>>,
    /// So many requests fail from now on.
    pub(crate) failures: AtomicUsize,
    pub(crate) requests: AtomicUsize,
}

pub(crate) struct Bucket {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    _server: JoinSet<()>,
}

impl Bucket {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(state.serve(request).await) }
                });
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { state, address, _server: server }
    }

    /// What of the broker's configuration leads here.
    pub(crate) fn settings(&self) -> String {
        format!(
            "[broker.results.bucket]\nname = \"pictures\"\nendpoint = \"http://{}\"\nregion = \"auto\"\n\
             access_key_id = \"{KEY_ID}\"\nsecret_access_key = \"shh\"\n",
            self.address
        )
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.objects.lock().keys().cloned().collect()
    }
}

impl State {
    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let failing = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, "<Error><Code>InternalError</Code></Error>");
        }
        // Signature version 4, with the key's id and the bucket's region in its scope.
        let signed = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let by = format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/");
        if !signed.starts_with(&by) || !signed.contains("/auto/s3/aws4_request") {
            return answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>");
        }
        // Several at once, as S3 calls it, although there is but one.
        if head.method == Method::POST && head.uri.query() == Some("delete") {
            let body = String::from_utf8(body.to_vec()).unwrap();
            let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            keys.for_each(|(key, _)| drop(self.objects.lock().remove(key)));
            return answer(StatusCode::OK, "<DeleteResult></DeleteResult>");
        }
        let Some(path) = head.uri.path().strip_prefix("/pictures/").map(str::to_owned) else {
            return answer(StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code></Error>");
        };
        match head.method {
            Method::PUT => {
                self.objects.lock().insert(path, Object { bytes: body, headers: head.headers });
                let mut response = answer(StatusCode::OK, "");
                response.headers_mut().insert("etag", "\"1\"".parse().unwrap());
                response
            }
            Method::GET => match self.objects.lock().get(&path) {
                Some(object) => part(object, &head.headers),
                None => answer(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>"),
            },
            _ => answer(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
    }
}

fn part(object: &Object, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let total = object.bytes.len();
    let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let range = range.map(|(first, last)| first.parse::<usize>().unwrap()..last.parse::<usize>().unwrap() + 1);
    let mut response = match &range {
        None => Response::new(Full::new(object.bytes.clone())),
        Some(range) => Response::new(Full::new(object.bytes.slice(range.clone()))),
    };
    let headers = response.headers_mut();
    headers.insert("etag", "\"1\"".parse().unwrap());
    headers.insert("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
    if let Some(range) = range {
        headers.insert("content-range", format!("bytes {}-{}/{total}", range.start, range.end - 1).parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn answer(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}
