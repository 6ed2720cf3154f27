use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use weir_config::MasterKey;
use weir_host::{Probe, Service};

use crate::harness::{Process, bind, broker, config};

const WELL: u8 = 0;
const ILL: u8 = 1;
const HUNG: u8 = 2;
/// For one look.
const ILL_ONCE: u8 = 3;

async fn process(state: &Arc<AtomicU8>) -> Process {
    let mut host = bind(&config(), &MasterKey::generate().unwrap(), &["quota"]).await.unwrap();
    let state = Arc::clone(state);
    let probe = Probe::new("redis", move || {
        let state = Arc::clone(&state);
        async move {
            match state.load(Ordering::Relaxed) {
                WELL => Ok(()),
                ILL => Err("connection refused"),
                ILL_ONCE => {
                    state.store(WELL, Ordering::Relaxed);
                    Err("connection refused")
                }
                _ => std::future::pending().await,
            }
        }
    });
    host.add(Service::new("quota").probe(probe)).await.unwrap();
    Process::run(host, "quota")
}

async fn becomes(process: &Process, status: u16) -> serde_json::Value {
    for _ in 0..6_000 {
        let (now, body) = process.get("/readyz").await;
        if now == status {
            return serde_json::from_str(&body).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {status}: {:?}", process.get("/readyz").await);
}

#[tokio::test]
async fn a_process_is_ready_when_what_it_needs_is_there_and_says_what_is_missing() {
    let state = Arc::new(AtomicU8::new(ILL));
    let process = process(&state).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let report = becomes(&process, 503).await;
    assert_eq!(report["services"][0]["service"], "quota");
    assert_eq!(report["services"][0]["probes"][0]["name"], "redis");
    assert_eq!(report["services"][0]["probes"][0]["error"], "connection refused");
    state.store(WELL, Ordering::Relaxed);
    assert_eq!(becomes(&process, 200).await["ready"], true);
    state.store(HUNG, Ordering::Relaxed);
    let report = becomes(&process, 503).await;
    assert_eq!(report["services"][0]["probes"][0]["error"], "no answer within 100ms");
    state.store(WELL, Ordering::Relaxed);
    becomes(&process, 200).await;
    process.ended().await;
}

#[tokio::test]
async fn grpc_health_follows_the_probes() {
    use tonic_health::pb::health_client::HealthClient;
    use weir_discovery::{Directory, Static};
    use weir_rpc::{Channel, ServiceIdentity};

    let master = MasterKey::generate().unwrap();
    let mut host = bind(&config(), &master, &["ai-broker"]).await.unwrap();
    let state = Arc::new(AtomicU8::new(ILL));
    let probed = Arc::clone(&state);
    let service = broker(&host.context("ai-broker")).probe(Probe::new("redis", move || {
        let well = probed.load(Ordering::Relaxed) == WELL;
        async move { if well { Ok(()) } else { Err("away") } }
    }));
    host.add(service).await.unwrap();
    let process = Process::run(host, "ai-broker");
    let directory: Arc<dyn Directory> =
        Arc::new(Static::default().with("ai-broker", [process.address.unwrap().into()]));
    let identity = ServiceIdentity::new("operator", &master);
    let mut client = HealthClient::new(Channel::remote(&directory, "ai-broker", identity, &config().rpc));
    for (is, says) in [(ILL, 2), (WELL, 1), (ILL, 2)] {
        state.store(is, Ordering::Relaxed);
        for round in 0.. {
            let check = tonic_health::pb::HealthCheckRequest { service: "weir.broker.v1.BrokerService".to_owned() };
            if client.check(check).await.unwrap().into_inner().status == says {
                break;
            }
            assert!(round < 200, "never {says}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    process.ended().await;
}

#[tokio::test]
async fn a_short_miss_does_not_send_the_callers_away() {
    let state = Arc::new(AtomicU8::new(WELL));
    let process = process(&state).await;
    becomes(&process, 200).await;
    state.store(ILL_ONCE, Ordering::Relaxed);
    while state.load(Ordering::Relaxed) == ILL_ONCE {
        assert_eq!(process.get("/readyz").await.0, 200);
    }
    for _ in 0..10 {
        assert_eq!(process.get("/readyz").await.0, 200);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.ended().await;
}

#[tokio::test]
async fn readiness_is_withdrawn_before_connections_are_closed() {
    let mut config = config();
    config.host.shutdown_delay = Duration::from_secs(1);
    let mut host = bind(&config, &MasterKey::generate().unwrap(), &["quota"]).await.unwrap();
    host.add(Service::new("quota")).await.unwrap();
    let process = Process::run(host, "quota");
    becomes(&process, 200).await;
    process.signal();
    becomes(&process, 503).await;
    assert_eq!(process.get("/livez").await.0, 200);
    process.ended().await;
}
