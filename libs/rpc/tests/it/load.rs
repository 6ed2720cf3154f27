use std::time::Duration;

use weir_proto::broker::v1::broker_service_server::BrokerServiceServer;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Routes, Stack};

use crate::harness::{ACCESS, Broker, Client, body, failure, text};

#[tokio::test]
async fn a_full_service_says_so_and_takes_calls_again_when_there_is_room() {
    let deployment = Deployment::new().await;
    let mut config = deployment.config().clone();
    config.server.max_in_flight = 2;
    let routes = Routes::new(BrokerServiceServer::new(Broker::default()));
    let stacked = Stack::new("ai-broker", routes, ACCESS).build(deployment.verifier().clone(), &config).await.unwrap();
    let client = Client::new(deployment.channel("facade", &stacked));
    let mut waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            Box::pin(async move { client.invoke(body("sleep")).await })
        })
        .collect();
    for call in &mut waiting {
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    let refusal = failure(client.clone().invoke(body("x")).await);
    assert_eq!(refusal.reason(), ErrorReason::Overloaded);
    assert!(refusal.retry_after().is_some_and(|delay| delay > Duration::ZERO) && refusal.is_transient());
    // A caller that leaves makes room.
    waiting.pop();
    assert_eq!(text(client.clone().invoke(body("x")).await), "x");
}
