use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::Request;
use weir_discovery::{Directory, Endpoint, Instance, Registration};
use weir_proto::broker::v1::StreamInvokeRequest;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, Failure, ServiceIdentity};

use crate::harness::{Broker, Client, Server, body, failure, serve, stacked, text};

/// A directory that says what the test says.
struct Told(watch::Receiver<Vec<Endpoint>>);

impl Directory for Told {
    fn watch(&self, _: &str) -> BoxStream<'static, Vec<Endpoint>> {
        WatchStream::new(self.0.clone()).boxed()
    }
    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, weir_discovery::Error>> {
        Box::pin(async { Ok(Registration::none()) })
    }
}

fn client(deployment: &Deployment, endpoints: &[Endpoint]) -> (Client, watch::Sender<Vec<Endpoint>>) {
    let (tell, told) = watch::channel(endpoints.to_vec());
    let directory: Arc<dyn Directory> = Arc::new(Told(told));
    let identity = ServiceIdentity::new("facade", deployment.master());
    (Client::new(Channel::remote(&directory, "ai-broker", identity, deployment.config())), tell)
}

async fn server(deployment: &Deployment, name: &'static str) -> Server {
    serve(stacked(deployment, Broker { name, ..Broker::default() }).await, "127.0.0.1:0").await
}

fn at(server: &Server) -> Endpoint {
    server.address.into()
}

/// An address where nobody listens.
async fn nobody() -> Endpoint {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().into()
}

#[tokio::test]
async fn a_call_over_a_socket_is_the_same_as_one_without() {
    let deployment = Deployment::new().await;
    let server = server(&deployment, "a").await;
    let (mut client, _tell) = client(&deployment, &[at(&server)]);
    assert_eq!(text(client.invoke(body("who")).await), r#"Service("facade")"#);
    let left: u128 = text(client.invoke(body("left")).await).parse().unwrap();
    assert!((9000..=10_000).contains(&left), "{left}");
    let request = StreamInvokeRequest { request: Some(body("")) };
    let chunks: Vec<_> = client.stream_invoke(request).await.unwrap().into_inner().collect().await;
    assert_eq!(chunks.len(), 2);
}

#[tokio::test]
async fn a_peer_that_is_down_is_named_and_the_error_comes_at_once() {
    let deployment = Deployment::new().await;
    let (mut client, _tell) = client(&deployment, &[nobody().await]);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        let failure = failure(client.invoke(body("x")).await);
        assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::Unavailable, Some("ai-broker")));
        assert!(failure.message().starts_with("ai-broker: ") && failure.message().contains("refused"), "{failure}");
        // Passed on to somebody outside, the address is no longer in it.
        let outside = Failure::from(tonic::Status::from(weir_rpc::Error::from(failure)));
        assert_eq!(outside.message(), "ai-broker is not available");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_service_without_instances_is_unavailable() {
    let deployment = Deployment::new().await;
    let (mut client, _tell) = client(&deployment, &[]);
    let failure = failure(client.invoke(body("x")).await);
    assert_eq!(failure.reason(), ErrorReason::Unavailable);
    assert_eq!(failure.message(), "ai-broker: no instance is known");
}

#[tokio::test]
async fn calls_spread_over_the_instances_and_pass_over_the_one_that_is_down() {
    let deployment = Deployment::new().await;
    let (a, b) = (server(&deployment, "a").await, server(&deployment, "b").await);
    let (client, _tell) = client(&deployment, &[at(&a), nobody().await, at(&b)]);
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        *seen.entry(text(client.clone().invoke(body("name")).await)).or_insert(0) += 1;
    }
    assert!(seen["a"] >= 30 && seen["b"] >= 30, "{seen:?}");

    // Busy ones get less.
    let mut streams = Vec::new();
    for _ in 0..10 {
        let request = StreamInvokeRequest { request: Some(body("endless")) };
        streams.push(client.clone().stream_invoke(request).await.unwrap());
    }
    drop(a);
    // A request on its way when its instance dies is lost; one that begins after is not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..20 {
        assert_eq!(text(client.clone().invoke(body("name")).await), "b");
    }
}

#[tokio::test]
async fn an_instance_that_comes_back_is_used_again() {
    let deployment = Deployment::new().await;
    let first = server(&deployment, "a").await;
    let address = first.address;
    let (mut client, _tell) = client(&deployment, &[at(&first)]);
    assert_eq!(text(client.invoke(body("name")).await), "a");
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(failure(client.invoke(body("name")).await).reason(), ErrorReason::Unavailable);
    let broker = Broker { name: "b", ..Broker::default() };
    let _second = serve(stacked(&deployment, broker).await, &address.to_string()).await;
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Ok(answer) = client.invoke(body("name")).await {
            assert_eq!(text(Ok(answer)), "b");
            return;
        }
    }
    panic!("never came back");
}

#[tokio::test]
async fn a_call_that_was_cut_is_not_sent_again_and_the_peer_is_named() {
    let deployment = Deployment::new().await;
    let cut = server(&deployment, "a").await;
    let other = server(&deployment, "b").await;
    let (client, tell) = client(&deployment, &[at(&cut)]);
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.invoke(body("sleep")).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    tell.send_replace(vec![at(&cut), at(&other)]);
    drop(cut);
    let failure = failure(call.await.unwrap());
    assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::Unavailable, Some("ai-broker")));
}

#[tokio::test]
async fn a_stream_goes_on_when_its_instance_leaves_the_directory_and_new_calls_go_elsewhere() {
    let deployment = Deployment::new().await;
    let (old, new) = (server(&deployment, "old").await, server(&deployment, "new").await);
    let (mut client, tell) = client(&deployment, &[at(&old)]);
    let request = StreamInvokeRequest { request: Some(body("slow")) };
    let mut stream = client.stream_invoke(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    tell.send_replace(vec![at(&new)]);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while text(client.invoke(body("name")).await) != "new" {
        assert!(std::time::Instant::now() < until, "the old one is still called");
    }
    assert!(stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn the_deadline_bounds_also_a_peer_that_accepts_and_says_nothing() {
    let deployment = Deployment::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _tell) = client(&deployment, &[silent.local_addr().unwrap().into()]);
    let mut request = Request::new(body("x"));
    request.set_timeout(Duration::from_millis(100));
    let failure = failure(client.invoke(request).await);
    assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::DeadlineExceeded, Some("ai-broker")));
}

#[tokio::test]
async fn a_message_over_the_limit_is_too_large() {
    let deployment = Deployment::new().await;
    let server = server(&deployment, "a").await;
    let (mut client, _tell) = client(&deployment, &[at(&server)]);
    let failure = failure(client.invoke(body("x".repeat(5 << 20))).await);
    assert_eq!(failure.reason(), ErrorReason::TooLarge, "{failure}");
}
