//! The load client against the provider alone: what it reports must be true before it may judge anybody.

use std::time::Duration;

use http::HeaderValue;
use weir_integration_tests::chat::Chat;
use weir_integration_tests::client::{Connection, Ending, Observed, Request};
use weir_integration_tests::load::{self, Plan};
use weir_simulator::{Options, Simulator};

fn request(streamed: bool, simulate: &str) -> Request {
    let body = Chat { model: "m", input: 7, output: 20, streamed, simulate }.body();
    let authorization = HeaderValue::from_static("Bearer k");
    Request { path: "/v1/chat/completions", authorization, body, streamed, headers: Vec::new() }
}

async fn send(simulator: &Simulator, streamed: bool, simulate: &str) -> Observed {
    Connection::new(simulator.addr()).send(&request(streamed, simulate)).await
}

#[tokio::test]
async fn complete_answers_report_usage_and_chunks() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let plain = send(&simulator, false, "").await;
    assert_eq!((plain.status, plain.usage, plain.ending), (200, Some((7, 20)), Ending::Complete));
    let streamed = send(&simulator, true, "").await;
    // The role, the tokens, the finish.
    assert_eq!((streamed.usage, streamed.chunks, streamed.ending), (Some((7, 20)), 22, Ending::Complete));
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    assert!(matches!(send(&simulator, true, "cut_after=4").await.ending, Ending::Broken(_)));
    assert!(matches!(send(&simulator, true, "end_after=4").await.ending, Ending::Broken(_)));
    assert!(matches!(send(&simulator, true, "error_after=4").await.ending, Ending::Broken(_)));
    assert!(matches!(send(&simulator, false, "body=html").await.ending, Ending::Broken(_)));
    assert!(matches!(send(&simulator, false, "reset=before").await.ending, Ending::Broken(_)));
    let refused = send(&simulator, false, "status=429,retry_after=3").await;
    assert_eq!((refused.status, refused.retry_after), (429, Some(Duration::from_secs(3))));
    assert!(matches!(refused.ending, Ending::Refused(_)));
    let address = simulator.addr();
    simulator.stop().await;
    drop(simulator);
    assert!(matches!(Connection::new(address).send(&request(false, "")).await.ending, Ending::Unreachable(_)));
}

#[tokio::test]
async fn every_request_is_sent_once_and_those_turned_away_again() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    simulator.add_fault(weir_simulator::Fault {
        simulate: "status=503".parse().unwrap(),
        times: Some(5),
        ..weir_simulator::Fault::default()
    });
    let plan = Plan { address: simulator.addr(), connections: 8, requests: 200, patience: Duration::from_secs(10) };
    let outcome = load::send(plan, |number| request(number % 2 == 0, ""), |_| None, |_| ()).await;
    assert!(outcome.answers.iter().map(|(number, ..)| *number).eq(0..200));
    assert!(outcome.answers.iter().all(|(.., observed)| observed.ending == Ending::Complete));
    assert_eq!(outcome.retries(), 5);
    let stats = simulator.stats();
    assert_eq!((stats.requests, stats.charged_requests, stats.output_tokens), (205, 200, 4_000));
}
