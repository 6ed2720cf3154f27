use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Request, Status};
use weir_proto::broker::v1::StreamInvokeRequest;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::testing::Deployment;
use weir_rpc::{Error, Failure};

use crate::harness::{Broker, body, failure, local, stacked};

#[tokio::test]
async fn an_error_arrives_with_everything_but_its_internal_detail() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let failure = failure(client.invoke(body("full")).await);
    assert_eq!((failure.code(), failure.reason()), (Code::ResourceExhausted, ErrorReason::QuotaExceeded));
    assert_eq!(failure.message(), "too many requests");
    assert_eq!(failure.metadata("limit"), Some("rpm"));
    assert_eq!(failure.retry_after(), Some(Duration::from_millis(1500)));
    assert_eq!(failure.violations()[0].subject, "organizations/x");
    assert_eq!(failure.fields()[0].description, "is odd");
    assert!(!format!("{failure:?}").contains("42"));
}

#[test]
fn a_refusal_carries_its_figures_and_takes_advice_along() {
    let error = Error::new(ErrorReason::QuotaExceeded, "refused")
        .metadata("limit.tokens", "scope=user;unit=token;cap=10;reset_ms=never")
        .advice("Ask for less");
    let failure = Failure::from(Status::from(error));
    assert_eq!(failure.message(), "refused. Ask for less");
    assert_eq!((failure.figure("tokens", "unit"), failure.figure("tokens", "cap")), (Some("token"), Some("10")));
    assert_eq!((failure.figure("tokens", "use"), failure.figure("requests", "cap")), (None, None));
}

#[tokio::test]
async fn defects_panics_and_bare_statuses_say_nothing_of_the_inside() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    for what in ["defect", "raw", "panic"] {
        let failure = failure(client.invoke(body(what)).await);
        assert_eq!((failure.code(), failure.reason()), (Code::Internal, ErrorReason::Internal), "{what}");
        assert_eq!(failure.message(), "internal error", "{what}");
    }
    for what in ["raw", "panic"] {
        let request = StreamInvokeRequest { request: Some(body(what)) };
        let mut stream = client.stream_invoke(request).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "what came before arrives");
        let failure = Failure::from(stream.message().await.unwrap_err());
        assert_eq!((failure.reason(), failure.message()), (ErrorReason::Internal, "internal error"), "{what}");
    }
}

#[tokio::test]
async fn the_detail_is_logged_once_under_the_id_of_the_request() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    // For the whole process: with one per thread, tests at the same time would decide what is worth a line.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    for what in ["defect", "raw", "panic"] {
        let mut request = Request::new(body(what));
        request.metadata_mut().insert("x-request-id", "req-77".parse().unwrap());
        assert!(client.invoke(request).await.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        lines.0.lock().unwrap().clear();
        assert_eq!(text.lines().filter(|line| line.contains("42") && line.contains("req-77")).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_message_is_the_callers_fault() {
    let deployment = Deployment::new().await;
    let stacked = stacked(&deployment, Broker::default()).await;
    let bearer = deployment.sign(&deployment.claims(
        weir_types::OrganizationId::new_v7(),
        None,
        None,
        [weir_types::Scope::AiInvoke],
    ));
    let request = http::Request::post("/weir.broker.v1.BrokerService/Invoke")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {bearer}"))
        .body(tonic::body::Body::new(Full::new(Bytes::from_static(b"\0\0\0\0\x03\xff\xff\xff"))))
        .unwrap();
    let answer = stacked.handle(request).await;
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(Failure::from(&status).reason(), ErrorReason::InvalidArgument, "{status}");
    assert!(answer.into_body().collect().await.is_ok());
}

#[test]
fn every_reason_survives_the_way() {
    for number in 1..=25 {
        let reason = ErrorReason::try_from(number).unwrap();
        let error = Error::new(reason, "text");
        let code = error.code();
        let failure = Failure::from(Status::from(error));
        assert_eq!((failure.reason(), failure.code()), (reason, code));
        // Passed on by a service in between.
        let again = Failure::from(Status::from(Error::from(failure)));
        assert_eq!((again.reason(), again.message()), (reason, "text"));
    }
}

#[test]
fn a_providers_answer_goes_along() {
    let answer = ProviderError { http_status: 422, body: "no".into(), ..Default::default() };
    let failure = Failure::from(Status::from(Error::new(ErrorReason::ProviderRejected, "x").provider(answer.clone())));
    assert_eq!(failure.provider_error(), Some(&answer));
}

#[test]
fn a_status_of_strangers_is_read_by_its_code() {
    assert_eq!(Failure::from(Status::unavailable("x")).reason(), ErrorReason::Unavailable);
    assert_eq!(Failure::from(Status::out_of_range("x")).reason(), ErrorReason::TooLarge);
    assert_eq!(
        Failure::from(Status::with_details(Code::Internal, "x", "garbage".into())).reason(),
        ErrorReason::Internal
    );
}
