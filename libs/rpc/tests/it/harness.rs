//! A broker that does what the body of the request says.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::broker_service_server::{BrokerService, BrokerServiceServer};
use weir_proto::broker::v1::{
    GetStatusRequest, GetStatusResponse, InvokeRequest, InvokeResponse, ListModelsRequest, ListModelsResponse,
    PreflightRequest, PreflightResponse, StreamInvokeRequest, StreamInvokeResponse, stream_invoke_response::Part,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Access, Call, Channel, Error, Failure, Routes, Stacked, caller, deadline};
use weir_types::Scope;

/// `GetStatus` is missing on purpose.
pub(crate) const ACCESS: &[(&str, Access)] = &[
    ("/weir.broker.v1.BrokerService/Invoke", Access::ScopeOrServices(Scope::AiInvoke, &["facade"])),
    ("/weir.broker.v1.BrokerService/StreamInvoke", Access::ScopeOrServices(Scope::AiInvoke, &["facade"])),
    ("/weir.broker.v1.BrokerService/Preflight", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/ListModels", Access::AnyPrincipal),
];

pub(crate) type Client = BrokerServiceClient<Channel>;

#[derive(Clone, Default)]
pub(crate) struct Broker {
    /// Another one, for calls that go on.
    pub(crate) next: Option<Client>,
    pub(crate) name: &'static str,
}

pub(crate) fn body(text: impl Into<String>) -> InvokeRequest {
    InvokeRequest { body: text.into().into(), ..Default::default() }
}

impl Broker {
    async fn act(&self, request: Request<InvokeRequest>) -> Result<InvokeResponse, Status> {
        let answer = |text: String| Ok(InvokeResponse { body: text.into(), ..Default::default() });
        let text = String::from_utf8(request.get_ref().body.to_vec()).unwrap();
        match text.as_str() {
            "who" => answer(format!("{:?}", caller(&request))),
            "name" => answer(self.name.to_owned()),
            "left" => {
                answer(deadline(&request).map_or("none".into(), |at| {
                    format!("{}", at.duration_since(tokio::time::Instant::now()).as_millis())
                }))
            }
            "request" => answer(Call::current().unwrap().request_id().to_str().unwrap().to_owned()),
            "panic" => panic!("the secret is 42"),
            "sleep" => std::future::pending().await,
            "defect" => Err(Error::defect("the secret is 42").into()),
            "raw" => Err(Status::internal("the secret is 42")),
            "full" => Err(Error::new(ErrorReason::QuotaExceeded, "too many requests")
                .violation("organizations/x", "10 per minute")
                .field("model", "is odd")
                .metadata("limit", "rpm")
                .retry_after(Duration::from_millis(1500))
                .internal("the secret is 42")
                .into()),
            text if text.starts_with("next:") => {
                let mut next = self.next.clone().unwrap();
                Ok(next
                    .invoke(body(&text[5..]))
                    .await
                    .map_err(|status| Error::from(Failure::from(status)))?
                    .into_inner())
            }
            text if text.starts_with("as it is") => {
                Ok(InvokeResponse { body: request.into_inner().body, ..Default::default() })
            }
            _ => answer(text),
        }
    }
}

#[tonic::async_trait]
impl BrokerService for Broker {
    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        self.act(request).await.map(Response::new)
    }

    type StreamInvokeStream = BoxStream<'static, Result<StreamInvokeResponse, Status>>;

    async fn stream_invoke(
        &self,
        request: Request<StreamInvokeRequest>,
    ) -> Result<Response<Self::StreamInvokeStream>, Status> {
        let text = request.into_inner().request.unwrap_or_default().body;
        let chunk = |text: &'static str| Ok(StreamInvokeResponse { part: Some(Part::Chunk(text.into())) });
        let first = futures::stream::iter([chunk("one")]);
        Ok(Response::new(match &text[..] {
            b"endless" => first.chain(futures::stream::pending()).boxed(),
            b"panic" => first
                .chain(futures::stream::once(async {
                    tokio::task::yield_now().await;
                    panic!("the secret is 42")
                }))
                .boxed(),
            b"raw" => first.chain(futures::stream::iter([Err(Status::internal("the secret is 42"))])).boxed(),
            b"asks" => {
                let next = self.next.clone().unwrap();
                let asked = futures::stream::iter(0..3).then(move |n| {
                    let mut next = next.clone();
                    async move {
                        let answer = next.invoke(body(format!("{n}"))).await?.into_inner();
                        Ok(StreamInvokeResponse { part: Some(Part::Chunk(answer.body)) })
                    }
                });
                first.chain(asked).chain(futures::stream::iter([chunk("two")])).boxed()
            }
            b"slow" => first
                .chain(futures::stream::once(async move {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    chunk("two")
                }))
                .boxed(),
            _ => first.chain(futures::stream::iter([chunk("two")])).boxed(),
        }))
    }

    async fn preflight(&self, _: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse::default()))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse::default()))
    }
}

pub(crate) async fn stacked(deployment: &Deployment, broker: Broker) -> Stacked {
    deployment.stack("ai-broker", Routes::new(BrokerServiceServer::new(broker)), ACCESS).await
}

/// A client of a broker in the same process, as the facade.
pub(crate) async fn local(deployment: &Deployment, broker: Broker) -> Client {
    Client::new(deployment.channel("facade", &stacked(deployment, broker).await))
}

pub(crate) fn text(answer: Result<Response<InvokeResponse>, Status>) -> String {
    String::from_utf8(answer.unwrap().into_inner().body.to_vec()).unwrap()
}

pub(crate) fn failure<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Failure {
    Failure::from(answer.unwrap_err())
}

/// A broker behind a socket; everything of it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

pub(crate) async fn serve(stacked: Stacked, at: &str) -> Server {
    let listener = loop {
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stacked = stacked.clone();
            connections.spawn(async move {
                let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let answer = stacked.handle(request.map(tonic::body::Body::new));
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), handler).await;
            });
        }
    });
    Server { address, _tasks: tasks }
}
