use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use tonic::Request;
use weir_proto::broker::v1::StreamInvokeRequest;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Call, Failure};

use crate::harness::{Broker, body, failure, local, stacked, text};

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_with_the_reason() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let started = Instant::now();
    let failure = failure(client.invoke(within(Duration::from_millis(50), body("sleep"))).await);
    assert_eq!(failure.reason(), ErrorReason::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_too() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let request = StreamInvokeRequest { request: Some(body("endless")) };
    let mut stream = client.stream_invoke(within(Duration::from_millis(500), request)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let failure = Failure::from(stream.message().await.unwrap_err());
    assert_eq!(failure.reason(), ErrorReason::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_without_a_deadline_goes_on_until_the_process_stops() {
    let deployment = Deployment::new().await;
    let stacked = stacked(&deployment, Broker::default()).await;
    let mut client = crate::harness::Client::new(deployment.channel("facade", &stacked));
    let request = StreamInvokeRequest { request: Some(body("endless")) };
    let mut stream = client.stream_invoke(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err());
    stacked.end_watches();
    let failure = Failure::from(stream.message().await.unwrap_err());
    assert_eq!(failure.reason(), ErrorReason::Unavailable);
}

#[tokio::test]
async fn what_is_left_goes_on_to_the_next_service_by_itself_and_so_does_the_request_id() {
    let deployment = Deployment::new().await;
    let next = local(&deployment, Broker::default()).await;
    let mut client = local(&deployment, Broker { next: Some(next), ..Broker::default() }).await;
    let left: u64 = text(client.invoke(within(Duration::from_secs(3), body("next:left"))).await).parse().unwrap();
    assert!((1000..=3000).contains(&left), "{left}");

    let mut request = Request::new(body("next:request"));
    request.metadata_mut().insert("x-request-id", "req-1".parse().unwrap());
    assert_eq!(text(client.invoke(request).await), "req-1");

    // The facade's way in.
    let call = Call::new(HeaderValue::from_static("req-2"), Some(Instant::now() + Duration::from_secs(1)));
    let answer = call.clone().scope(client.invoke(body("next:request"))).await;
    assert_eq!(text(answer), "req-2");
    let left: u64 = text(call.scope(client.invoke(body("next:left"))).await).parse().unwrap();
    assert!(left <= 1000, "{left}");
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_channels_and_none_gets_more_than_the_servers() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let left: u128 = text(client.invoke(body("left")).await).parse().unwrap();
    assert!((9000..=10_000).contains(&left), "{left}");
    let left: u128 = text(client.invoke(within(Duration::from_secs(86_400), body("left"))).await).parse().unwrap();
    assert!(left <= deployment.config().server.max_deadline.as_millis(), "{left}");
}
