//! A stand-in for an OpenTelemetry collector: answers `Export` and keeps what it was sent.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response};
use tokio::sync::mpsc;

pub(crate) struct Collector {
    pub(crate) endpoint: String,
    pub(crate) received: mpsc::Receiver<Bytes>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let (sender, received) = mpsc::channel(16);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let export = axum::routing::post(move |body: Bytes| async move {
            sender.send(body).await.unwrap();
            answer()
        });
        let router = Router::new().route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", export);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, received }
    }
}

/// An empty protobuf message and `grpc-status: 0`.
fn answer() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = http_body_util::Full::new(Bytes::from_static(&[0; 5]));
    let body = http_body_util::BodyExt::with_trailers(message, async move { Some(Ok::<_, Infallible>(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}
