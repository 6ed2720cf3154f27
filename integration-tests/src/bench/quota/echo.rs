//! The floor of an RPC: a bare tonic server that reads a `Reserve` and answers one of the same size, and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_prost::ProstCodec;
use weir_proto::quota::v1::{LimitState, ReserveRequest, ReserveResponse};

use super::plan::LIMITS;
use crate::report::say;

/// `weir-integration-tests echo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// The first line of its output, before the address.
pub(super) const ANNOUNCEMENT: &str = "echo: ";
/// About the length of a handle of six limits.
const HANDLE: usize = 190;

/// Serves until it is killed.
///
/// # Errors
/// It cannot listen.
pub async fn run(_: &Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    say(format!("{ANNOUNCEMENT}{}", listener.local_addr()?))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(Echo(answer())).serve_with_incoming(incoming).await?;
    Ok(())
}

/// As large as quota's own.
fn answer() -> ReserveResponse {
    let second = |seconds| Some(prost_types::Duration { seconds, nanos: 500_000_000 });
    let limit = |(name, scope, unit): (&str, &str, &str)| LimitState {
        limit: name.to_owned(),
        unit: unit.to_owned(),
        scope: scope.to_owned(),
        cap: 1_000_000_000_000_000,
        used: 30_000_000,
        held: 30_000_000,
        reset_after: second(2_000_000),
        requested: 1_000,
        retry_after: None,
    };
    ReserveResponse { handle: vec![7; HANDLE].into(), limits: LIMITS.map(limit).to_vec(), epoch: 1 }
}

#[derive(Clone)]
struct Echo(ReserveResponse);

impl NamedService for Echo {
    const NAME: &'static str = "weir.quota.v1.QuotaService";
}

impl tower::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            let handler = tower::service_fn(move |_: tonic::Request<ReserveRequest>| {
                let answer = answer.clone();
                async move { Ok::<_, Status>(tonic::Response::new(answer)) }
            });
            Ok(Grpc::new(ProstCodec::<ReserveResponse, ReserveRequest>::default()).unary(handler, request).await)
        })
    }
}
