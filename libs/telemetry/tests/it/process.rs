use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tracing::Instrument as _;
use weir_telemetry::{Config, LogFormat, Telemetry, context};

use crate::collector::Collector;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// One test, because a process has one logger and one recorder. The runtime has one thread, as a service's.
#[tokio::test]
async fn a_process_has_one_telemetry_that_traces_and_counts() {
    let mut collector = Collector::start().await;
    let config = Config {
        log_level: "info".into(),
        log_format: LogFormat::Json,
        otlp_endpoint: collector.endpoint.clone(),
        sample_ratio: 0.0,
    };
    let telemetry = Telemetry::start(&config, "quota", "quota-1").unwrap();
    let again = Telemetry::start(&config, "usage", "usage-1").unwrap();

    metrics::counter!("weir_test_total").increment(3);
    metrics::histogram!("weir_test_seconds").record(0.002);
    assert!(again.metrics().contains("weir_test_total 3"), "{}", again.metrics());
    assert!(again.metrics().contains(r#"weir_test_seconds_bucket{le="0.0025"} 1"#), "{}", again.metrics());

    let mut incoming = HeaderMap::new();
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    incoming.insert("traceparent", HeaderValue::try_from(parent.as_str()).unwrap());
    let span = tracing::info_span!(target: "weir_test", "reserve", limit = "tokens");
    context::continue_trace(&span, &incoming);
    let outgoing = async {
        assert_eq!(context::trace_id().as_deref(), Some(TRACE));
        let mut outgoing = HeaderMap::new();
        tokio::task::yield_now().await;
        context::inject(&mut outgoing);
        outgoing
    }
    .instrument(span)
    .await;
    let sent = outgoing["traceparent"].to_str().unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01") && sent != parent, "{sent}");
    assert!(!outgoing.contains_key("tracestate"));

    let mut outside = HeaderMap::new();
    context::inject(&mut outside);
    assert!(outside.is_empty());

    telemetry.shutdown().await;
    let body = tokio::time::timeout(Duration::from_secs(60), collector.received.recv()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&body);
    for expected in ["reserve", "quota-1", "limit", "tokens"] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
}
