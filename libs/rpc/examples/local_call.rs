//! What a unary call costs: the generated code alone, with all layers in one process, and over a socket.
//!
//! `cargo run --release -p weir-rpc --example local_call --features testing`

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::{Request, Response, Status};
use weir_discovery::{Directory, Static};
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::broker_service_server::{BrokerService, BrokerServiceServer};
use weir_proto::broker::v1::{
    GetStatusRequest, GetStatusResponse, InvokeRequest, InvokeResponse, ListModelsRequest, ListModelsResponse,
    PreflightRequest, PreflightResponse, StreamInvokeRequest, StreamInvokeResponse,
};
use weir_rpc::testing::Deployment;
use weir_rpc::{Access, Call, Channel, Routes, ServiceIdentity, Stacked};
use weir_types::{ApiKeyId, OrganizationId, Scope, UserId};

const ACCESS: &[(&str, Access)] =
    &[("/weir.broker.v1.BrokerService/Invoke", Access::ScopeOrServices(Scope::AiInvoke, &["facade"]))];
const ROUNDS: u32 = 100_000;

struct Echo;

#[tonic::async_trait]
impl BrokerService for Echo {
    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        Ok(Response::new(InvokeResponse { body: request.into_inner().body, ..Default::default() }))
    }

    type StreamInvokeStream = BoxStream<'static, Result<StreamInvokeResponse, Status>>;

    async fn stream_invoke(
        &self,
        _: Request<StreamInvokeRequest>,
    ) -> Result<Response<Self::StreamInvokeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn preflight(&self, _: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn time<F: Future<Output = ()>>(what: &str, rounds: u32, mut call: impl FnMut() -> F) {
    for _ in 0..rounds / 10 {
        call().await;
    }
    let started = Instant::now();
    for _ in 0..rounds {
        call().await;
    }
    println!("{what:<46} {:>8.2} µs", started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}

async fn serve(stacked: Stacked) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stacked = stacked.clone();
            let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = stacked.handle(request.map(tonic::body::Body::new));
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), handler));
        }
    });
    address
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let deployment = Deployment::new().await;
    let server = BrokerServiceServer::new(Echo);
    let stacked = deployment.stack("ai-broker", Routes::new(server.clone()), ACCESS).await;
    let bytes = bytes::Bytes::from(vec![b'x'; 500]);
    let message = || InvokeRequest { body: bytes.clone(), ..Default::default() };

    let direct = BrokerServiceClient::new(server.clone());
    time("generated client and server alone", ROUNDS, || {
        let mut client = direct.clone();
        async move { drop(client.invoke(message()).await.unwrap()) }
    })
    .await;
    let routed = BrokerServiceClient::new(tonic::service::Routes::new(server.clone()).prepare());
    time("the same through tonic's Routes", ROUNDS, || {
        let mut client = routed.clone();
        async move { drop(client.invoke(message()).await.unwrap()) }
    })
    .await;

    let local = BrokerServiceClient::new(deployment.channel("facade", &stacked));
    let call =
        || Call::new("0192f0c1-2d3e".parse().unwrap(), Some(tokio::time::Instant::now() + Duration::from_secs(60)));
    time("all layers, as a service", ROUNDS, || {
        let mut client = local.clone();
        let call = call();
        async move { drop(call.scope(client.invoke(message())).await.unwrap()) }
    })
    .await;
    let bearer = deployment.principal(
        OrganizationId::new_v7(),
        Some(UserId::new_v7()),
        Some(ApiKeyId::new_v7()),
        [Scope::AiInvoke],
    );
    time("all layers, as a principal", ROUNDS, || {
        let mut client = local.clone();
        let (call, request) = (call(), bearer.request(message()));
        async move { drop(call.scope(client.invoke(request)).await.unwrap()) }
    })
    .await;

    let address = serve(stacked).await;
    let directory: Arc<dyn Directory> = Arc::new(Static::default().with("ai-broker", [address.into()]));
    let identity = ServiceIdentity::new("facade", deployment.master());
    let remote = BrokerServiceClient::new(Channel::remote(&directory, "ai-broker", identity, deployment.config()));
    time("all layers, over a socket, one at a time", ROUNDS / 5, || {
        let mut client = remote.clone();
        async move { drop(client.invoke(message()).await.unwrap()) }
    })
    .await;
    time("all layers, over a socket, 64 calls at a time", ROUNDS / 320, || {
        let calls = (0..64).map(|_| {
            let mut client = remote.clone();
            let message = message();
            async move { drop(client.invoke(message).await.unwrap()) }
        });
        async move { drop(futures::future::join_all(calls).await) }
    })
    .await;
}
