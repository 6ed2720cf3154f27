//! One trace across all services: what an operator sees of a request, wherever its parts ran.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use weir_integration_tests::deployment::{Mode, Options};

use crate::{World, asking, with};

/// Processes send their spans every five seconds.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// Of the client's own span.
const PARENT: &str = "00f067aa0ba902b7";

/// A stand-in for an OpenTelemetry collector: passes on what it gets, with the name of the service.
struct Collector(mpsc::Sender<(String, Span)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for group in request.into_inner().resource_spans {
            let service = group.resource.as_ref().map(service_name).unwrap_or_default();
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                // The test that reads them may have ended.
                let _ = self.0.send((service.clone(), span)).await;
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn service_name(resource: &Resource) -> String {
    let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    match name.and_then(|name| name.value.clone()).and_then(|value| value.value) {
        Some(Attribute::StringValue(name)) => name,
        _ => String::new(),
    }
}

async fn collector() -> (String, mpsc::Receiver<(String, Span)>) {
    let (sender, spans) = mpsc::channel(10_000);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (endpoint, spans)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for the spans of these traces, until each has one of each of its services, and every one's parent.
async fn traces(spans: &mut mpsc::Receiver<(String, Span)>, wanted: &BTreeMap<&str, BTreeSet<&str>>) {
    let mut traces: BTreeMap<&str, Vec<(String, Span)>> = wanted.keys().map(|id| (*id, Vec::new())).collect();
    let complete = async {
        while let Some((service, span)) = spans.recv().await {
            if let Some(trace) = traces.get_mut(&*hex(&span.trace_id)) {
                trace.push((service, span));
            }
            let whole =
                |(id, trace): (&&str, &Vec<_>)| seen(trace).is_superset(&wanted[id]) && orphans(trace).is_empty();
            if traces.iter().all(whole) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(DELIVERED_WITHIN, complete).await.is_ok();
    let seen: Vec<_> = traces.values().map(|trace| (seen(trace), orphans(trace))).collect();
    assert!(in_time, "seen only, with these of no parent: {seen:?}");
}

/// What the caller's span did not begin, and no other span of the trace.
fn orphans(trace: &[(String, Span)]) -> Vec<String> {
    let known: BTreeSet<&[u8]> = trace.iter().map(|(_, span)| &*span.span_id).collect();
    let orphan = |(service, span): &&(String, Span)| {
        let from_outside = service == "facade" && span.name.contains("/v1/");
        if from_outside { hex(&span.parent_span_id) != PARENT } else { !known.contains(&*span.parent_span_id) }
    };
    trace.iter().filter(orphan).map(|(service, span)| format!("{service} {}", span.name)).collect()
}

fn seen(trace: &[(String, Span)]) -> BTreeSet<&str> {
    trace.iter().map(|(service, _)| service.as_str()).collect()
}

#[tokio::test]
async fn a_request_is_one_trace_across_all_processes_and_continues_the_callers() {
    let (endpoint, mut spans) = collector().await;
    // Nothing but what a caller has decided to record.
    let more_config = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\nsample_ratio = 0.0\n");
    let world = World::start(Options { more_config, ..Options::new(Mode::Separate) }).await;
    let ids = ["4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4737"];
    for (id, body) in ids.into_iter().zip([asking(""), with(asking(""), &json!({"stream": true}))]) {
        let request = world.post("/v1/chat/completions").header("traceparent", format!("00-{id}-{PARENT}-01"));
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
    // Auth is asked by the first request alone: the facade knows the key from then on.
    let later = BTreeSet::from(["facade", "ai-broker", "quota"]);
    let first = &later | &BTreeSet::from(["auth"]);
    traces(&mut spans, &BTreeMap::from([(ids[0], first), (ids[1], later)])).await;
}
