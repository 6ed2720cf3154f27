use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use weir_rpc::testing::Deployment;

use crate::harness::{Broker, failure, stacked};

#[tokio::test]
async fn health_needs_no_credential_and_starts_as_not_serving() {
    let deployment = Deployment::new().await;
    let stacked = stacked(&deployment, Broker::default()).await;
    let mut client = HealthClient::new(stacked.clone());
    for service in ["", "weir.broker.v1.BrokerService"] {
        let check = || HealthCheckRequest { service: service.to_owned() };
        stacked.health().set_serving(false).await;
        let status = client.check(check()).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{service}");
        stacked.health().set_serving(true).await;
        assert_eq!(client.check(check()).await.unwrap().into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "x".into() }).await;
    assert_eq!(failure(unknown).reason(), weir_proto::common::v1::ErrorReason::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_service_and_needs_no_credential() {
    let deployment = Deployment::new().await;
    let mut client = ServerReflectionClient::new(stacked(&deployment, Broker::default()).await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "weir.broker.v1.BrokerService"]);
}

#[tokio::test]
async fn a_path_that_is_no_method_is_unimplemented() {
    let deployment = Deployment::new().await;
    let stacked = stacked(&deployment, Broker::default()).await;
    for path in ["/", "/x", "/weir.broker.v1.BrokerService/Gone", "/weir.quota.v1.QuotaService/Reserve"] {
        let request = http::Request::post(path).body(tonic::body::Body::empty()).unwrap();
        let answer = stacked.handle(request).await;
        let status = tonic::Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{path}");
    }
}
