use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weir_config::MasterKey;
use weir_discovery::{Directory, Static};
use weir_host::{Service, StartError};
use weir_proto::broker::v1::StreamInvokeRequest;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Channel, Failure, ServiceIdentity};

use crate::harness::{Process, bind, body, broker, config, http_get};

/// What the configuration of these tests says; what does not hold anything up ends long before.
const DRAIN: Duration = Duration::from_secs(2);

async fn process(master: &MasterKey) -> Process {
    let mut host = bind(&config(), master, &["ai-broker"]).await.unwrap();
    let context = host.context("ai-broker");
    host.add(broker(&context)).await.unwrap();
    let process = Process::run(host, "ai-broker");
    process.ready().await;
    process
}

fn client(process: &Process, master: &MasterKey) -> BrokerServiceClient<Channel> {
    let directory: Arc<dyn Directory> =
        Arc::new(Static::default().with("ai-broker", [process.address.unwrap().into()]));
    BrokerServiceClient::new(Channel::remote(
        &directory,
        "ai-broker",
        ServiceIdentity::new("facade", master),
        &config().rpc,
    ))
}

#[tokio::test]
async fn a_process_serves_and_ends_when_it_is_told_to() {
    let master = MasterKey::generate().unwrap();
    let process = process(&master).await;
    let answer = client(&process, &master).invoke(body("")).await.unwrap().into_inner();
    assert_eq!(&answer.body[..], br#"Service("facade")"#);
    assert_eq!(process.get("/livez").await.0, 200);
    let (status, metrics) = process.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("weir_rpc_server_calls_total") && metrics.contains("weir_ready"), "{metrics}");
    assert!(process.ended().await < DRAIN);
}

#[tokio::test]
async fn what_has_begun_is_finished_after_the_signal() {
    let master = MasterKey::generate().unwrap();
    let process = process(&master).await;
    let mut client = client(&process, &master);
    let slow = tokio::spawn(async move { client.invoke(body("slow")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let took = process.ended().await;
    assert_eq!(&slow.await.unwrap().unwrap().into_inner().body[..], b"slow");
    assert!(took < DRAIN, "{took:?}");
}

#[tokio::test]
async fn what_does_not_finish_is_cut_at_the_drains_bound() {
    let master = MasterKey::generate().unwrap();
    let process = process(&master).await;
    let mut client = client(&process, &master);
    let never = tokio::spawn(async move { client.invoke(body("never")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let took = process.ended().await;
    assert!((DRAIN * 9 / 10..DRAIN * 4).contains(&took), "{took:?}");
    assert_eq!(Failure::from(never.await.unwrap().unwrap_err()).reason(), ErrorReason::Unavailable);
}

#[tokio::test]
async fn a_watch_ends_with_the_signal_and_does_not_hold_up_the_end() {
    let master = MasterKey::generate().unwrap();
    let process = process(&master).await;
    let mut client = client(&process, &master);
    let mut watch = client.stream_invoke(StreamInvokeRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert!(process.ended().await < DRAIN);
    assert_eq!(Failure::from(watch.message().await.unwrap_err()).reason(), ErrorReason::Unavailable);
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_nobody_else() {
    let master = MasterKey::generate().unwrap();
    let process = process(&master).await;
    let client = client(&process, &master);
    let mut floods = Vec::new();
    for _ in 0..200 {
        let request = StreamInvokeRequest { request: Some(body("flood")) };
        let mut flood = client.clone().stream_invoke(request).await.unwrap().into_inner();
        flood.message().await.unwrap().unwrap();
        floods.push(flood);
        client.clone().invoke(body("")).await.unwrap();
    }
    // Each of them has filled its own window by now, or does so meanwhile.
    for _ in 0..200 {
        client.clone().invoke(body("")).await.unwrap();
    }
    for flood in &mut floods {
        assert!(flood.message().await.unwrap().is_some(), "it goes on when it is read");
    }
    drop(floods);
    process.ended().await;
}

#[tokio::test]
async fn services_end_after_the_listeners_the_last_added_first() {
    let master = MasterKey::generate().unwrap();
    let config = config();
    let mut host = bind(&config, &master, &["usage", "ai-broker"]).await.unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    let mut ended = Vec::new();
    for name in ["usage", "ai-broker"] {
        let context = host.context(name);
        let (tell, told) = tokio::sync::oneshot::channel();
        let (turn, shutdown) = (Arc::clone(&turn), context.shutdown.clone());
        context.tasks.spawn(async move {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            tell.send(turn.fetch_add(1, Ordering::Relaxed)).unwrap();
        });
        ended.push(told);
        host.add(Service::new(name)).await.unwrap();
    }
    Process::run(host, "usage").ended().await;
    assert_eq!((ended.remove(0).await, ended.remove(0).await), (Ok(1), Ok(0)));
}

#[tokio::test]
async fn a_drain_that_hangs_is_cut() {
    let master = MasterKey::generate().unwrap();
    let mut host = bind(&config(), &master, &["usage"]).await.unwrap();
    host.add(Service::new("usage").drain(std::future::pending())).await.unwrap();
    let took = Process::run(host, "usage").ended().await;
    assert!((DRAIN * 9 / 10..DRAIN * 4).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.host.listen.insert("quota".to_owned(), taken.local_addr().unwrap().to_string());
    let error = bind(&config, &MasterKey::generate().unwrap(), &["quota"]).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    let text = error.to_string();
    assert!(text.starts_with("quota can't listen at 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn a_public_http_api_is_served_and_drained() {
    let mut host = bind(&config(), &MasterKey::generate().unwrap(), &["facade"]).await.unwrap();
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        "done"
    };
    let router = axum::Router::new().route("/slow", axum::routing::get(slow));
    host.add(Service::new("facade").http(router)).await.unwrap();
    let process = Process::run(host, "facade");
    process.ready().await;
    let address = process.address.unwrap();
    let request = tokio::spawn(async move { http_get(address, "/slow").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal();
    assert_eq!(request.await.unwrap(), (200, "done".to_owned()));
    assert!(process.ended().await < DRAIN);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_public_http_api_knows_its_peers() {
    use axum::extract::ConnectInfo;
    let mut host = bind(&config(), &MasterKey::generate().unwrap(), &["facade"]).await.unwrap();
    let who = |ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>| async move { peer.ip().to_string() };
    host.add(Service::new("facade").http(axum::Router::new().route("/who", axum::routing::get(who)))).await.unwrap();
    let process = Process::run(host, "facade");
    process.ready().await;
    assert_eq!(http_get(process.address.unwrap(), "/who").await, (200, "127.0.0.1".to_owned()));
    process.ended().await;
}
