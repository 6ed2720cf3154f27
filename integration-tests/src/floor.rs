//! The floor: a bare reverse proxy, axum and hyper's client and nothing else. What a gateway costs that does not do anything.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use http::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use crate::report::say;

/// `weir-integration-tests floor`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where requests are passed on to.
    #[arg(long)]
    pub upstream: SocketAddr,
}

/// The first line of its output, before the address.
pub const ANNOUNCEMENT: &str = "floor: http://";

#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, Body>,
    address: SocketAddr,
}

/// Serves until it is killed.
///
/// # Errors
/// It cannot listen.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let app = Router::new().fallback(pass_on).with_state(Upstream { client, address: args.upstream });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    say(format!("{ANNOUNCEMENT}{}", listener.local_addr()?))?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn pass_on(State(upstream): State<Upstream>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match Uri::builder().scheme("http").authority(upstream.address.to_string()).path_and_query(path).build() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    }
    match upstream.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
