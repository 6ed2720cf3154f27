//! Processes with brokers in them.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weir_config::{Loader, MasterKey, Problem, Validate};
use weir_host::{Context, Host, Service, Setup, StartError};
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::broker_service_server::{BrokerService, BrokerServiceServer};
use weir_proto::broker::v1::{
    GetStatusRequest, GetStatusResponse, InvokeRequest, InvokeResponse, ListModelsRequest, ListModelsResponse,
    PreflightRequest, PreflightResponse, StreamInvokeRequest, StreamInvokeResponse, stream_invoke_response::Part,
};
use weir_rpc::{Access, Channel, Routes, caller};
use weir_telemetry::Telemetry;

pub(crate) const ACCESS: &[(&str, Access)] = &[
    ("/weir.broker.v1.BrokerService/Invoke", Access::AnyService),
    ("/weir.broker.v1.BrokerService/StreamInvoke", Access::AnyService),
];

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) host: weir_host::Config,
    pub(crate) rpc: weir_rpc::Config,
    pub(crate) discovery: weir_discovery::Config,
    telemetry: weir_telemetry::Config,
}

impl Validate for Config {
    fn validate(&self, _: &str, problems: &mut Vec<Problem>) {
        self.host.validate("host", problems);
        self.rpc.validate("rpc", problems);
        self.discovery.validate("discovery", problems);
    }
}

/// The defaults, with these on top.
pub(crate) fn load(variables: &[(&str, &str)]) -> Result<Config, weir_config::Errors> {
    let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Loader::new()
        .section(weir_host::DEFAULTS)
        .section(weir_rpc::DEFAULTS)
        .section(weir_discovery::DEFAULTS)
        .section(weir_telemetry::DEFAULTS)
        .variables("WEIR_", variables)
        .load()
}

/// Free ports everywhere, and short waits.
pub(crate) fn config() -> Config {
    let mut config = load(&[
        ("WEIR_HOST__ADMIN_LISTEN", "127.0.0.1:0"),
        ("WEIR_TELEMETRY__LOG_LEVEL", "error"),
        ("WEIR_HOST__DRAIN", "2s"),
        ("WEIR_HOST__PROBE_INTERVAL", "20ms"),
        ("WEIR_HOST__PROBE_TIMEOUT", "100ms"),
    ])
    .unwrap();
    for address in config.host.listen.values_mut() {
        "127.0.0.1:0".clone_into(address);
    }
    config
}

pub(crate) async fn bind(config: &Config, master: &MasterKey, services: &[&'static str]) -> Result<Host, StartError> {
    Host::bind(Setup {
        host: &config.host,
        rpc: &config.rpc,
        discovery: &config.discovery,
        master: master.clone(),
        instance: "test".to_owned(),
        services,
        telemetry: Telemetry::start(&config.telemetry, "test", "test").unwrap(),
    })
    .await
}

/// A process that runs until it is told to stop.
pub(crate) struct Process {
    stop: CancellationToken,
    running: JoinHandle<()>,
    pub(crate) admin: SocketAddr,
    pub(crate) address: Option<SocketAddr>,
}

impl Process {
    pub(crate) fn run(host: Host, service: &str) -> Self {
        let (admin, address) = (host.admin_address().unwrap(), host.address(service));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        Self { stop, running: tokio::spawn(host.run(stopped)), admin, address }
    }

    pub(crate) fn signal(&self) {
        self.stop.cancel();
    }

    /// How long the end took.
    pub(crate) async fn ended(self) -> Duration {
        self.stop.cancel();
        let started = std::time::Instant::now();
        tokio::time::timeout(Duration::from_secs(60), self.running).await.expect("it ends").unwrap();
        started.elapsed()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path).await
    }

    pub(crate) async fn ready(&self) {
        for _ in 0..6_000 {
            if self.get("/readyz").await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never ready: {}", self.get("/readyz").await.1);
    }
}

/// A plain HTTP/1.1 request.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A broker that says who called, or takes its time.
#[derive(Clone, Default)]
pub(crate) struct Broker {
    pub(crate) next: Option<Channel>,
}

pub(crate) fn broker(context: &Context) -> Service {
    let server = BrokerServiceServer::new(Broker { next: Some(context.channels.to("usage")) });
    Service::new("ai-broker").grpc(Routes::new(server), ACCESS)
}

/// The same servers under another service's name: what they are called by does not matter here.
pub(crate) fn usage(_: &Context) -> Service {
    Service::new("usage").grpc(Routes::new(BrokerServiceServer::new(Broker::default())), ACCESS)
}

pub(crate) fn body(text: &str) -> InvokeRequest {
    InvokeRequest { body: text.to_owned().into(), ..Default::default() }
}

#[tonic::async_trait]
impl BrokerService for Broker {
    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let who = format!("{:?}", caller(&request));
        let text = match &request.get_ref().body[..] {
            b"slow" => {
                tokio::time::sleep(Duration::from_millis(700)).await;
                "slow".to_owned()
            }
            b"never" => std::future::pending().await,
            b"next" => {
                let answer = BrokerServiceClient::new(self.next.clone().unwrap()).invoke(body("")).await?;
                format!("{who} {}", String::from_utf8(answer.into_inner().body.to_vec()).unwrap())
            }
            _ => who,
        };
        Ok(Response::new(InvokeResponse { body: text.into(), ..Default::default() }))
    }

    type StreamInvokeStream = BoxStream<'static, Result<StreamInvokeResponse, Status>>;

    async fn stream_invoke(
        &self,
        request: Request<StreamInvokeRequest>,
    ) -> Result<Response<Self::StreamInvokeStream>, Status> {
        if request.into_inner().request.is_some_and(|request| &request.body[..] == b"flood") {
            let chunk = StreamInvokeResponse { part: Some(Part::Chunk(vec![0; 16 << 10].into())) };
            return Ok(Response::new(futures::stream::repeat_with(move || Ok(chunk.clone())).boxed()));
        }
        let first = StreamInvokeResponse { part: Some(Part::Chunk("one".into())) };
        Ok(Response::new(futures::stream::iter([Ok(first)]).chain(futures::stream::pending()).boxed()))
    }

    async fn preflight(&self, _: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
