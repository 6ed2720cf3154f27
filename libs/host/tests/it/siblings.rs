use weir_config::MasterKey;
use weir_host::Context;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;

use crate::harness::{Process, bind, body, broker, config, usage};

async fn ask(context: &Context) -> Result<String, Failure> {
    let answer = BrokerServiceClient::new(context.channels.to("ai-broker")).invoke(body("next")).await;
    answer.map(|answer| String::from_utf8(answer.into_inner().body.to_vec()).unwrap()).map_err(Failure::from)
}

#[tokio::test]
async fn siblings_in_one_process_call_each_other_without_a_socket_each_under_its_own_name() {
    let mut config = config();
    config.host = config.host.without_grpc_sockets();
    let mut host = bind(&config, &MasterKey::generate().unwrap(), &["usage", "ai-broker", "facade"]).await.unwrap();
    let (facade, broker_context) = (host.context("facade"), host.context("ai-broker"));
    // Before it is up, a sibling is away, and says so.
    let failure = ask(&facade).await.unwrap_err();
    assert_eq!((failure.reason(), failure.message()), (ErrorReason::Unavailable, "ai-broker: has not started yet"));
    host.add(usage(&broker_context)).await.unwrap();
    host.add(broker(&broker_context)).await.unwrap();
    assert!(host.address("ai-broker").is_none() && host.address("usage").is_none());
    assert_eq!(ask(&facade).await.unwrap(), r#"Service("facade") Service("ai-broker")"#);
    Process::run(host, "facade").ended().await;
}

#[tokio::test]
async fn siblings_in_processes_of_their_own_call_each_other_the_same_way() {
    let master = MasterKey::generate().unwrap();
    let mut config = config();

    let mut host = bind(&config, &master, &["usage"]).await.unwrap();
    let service = usage(&host.context("usage"));
    host.add(service).await.unwrap();
    let usage = Process::run(host, "usage");
    config.discovery.services.insert("usage".to_owned(), vec![usage.address.unwrap().to_string()]);

    let mut host = bind(&config, &master, &["ai-broker"]).await.unwrap();
    let service = broker(&host.context("ai-broker"));
    host.add(service).await.unwrap();
    let broker = Process::run(host, "ai-broker");
    config.discovery.services.insert("ai_broker".to_owned(), vec![broker.address.unwrap().to_string()]);

    let mut facade = bind(&config, &master, &["facade"]).await.unwrap();
    assert_eq!(ask(&facade.context("facade")).await.unwrap(), r#"Service("facade") Service("ai-broker")"#);
    broker.ended().await;
    usage.ended().await;
    assert_eq!(ask(&facade.context("facade")).await.unwrap_err().reason(), ErrorReason::Unavailable);
}
