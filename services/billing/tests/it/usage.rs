//! A usage service in memory, behind real gRPC layers. As the real one, it has each event once, at the position of its last
//! change.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use futures::Stream;
use prost_types::Timestamp;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use weir_proto::usage::v1::usage_service_server::{UsageService, UsageServiceServer};
use weir_proto::usage::v1::{
    Change, ListEventsRequest, ListEventsResponse, QueryUsageRequest, QueryUsageResponse, RecordEventsRequest,
    RecordEventsResponse, ScanEventsRequest, ScanEventsResponse, UsageEvent, WatchChangesRequest, WatchChangesResponse,
};
use weir_rpc::testing::Deployment;
use weir_rpc::{Access, Channel, Routes};
use weir_types::{OrganizationId, names};

use crate::house::now;

const ACCESS: &[(&str, Access)] = &[("/weir.usage.v1.UsageService/WatchChanges", Access::Services(&["billing"]))];

#[derive(Clone)]
pub(crate) struct FakeUsage {
    changes: Arc<Mutex<BTreeMap<i64, Change>>>,
    head: Arc<watch::Sender<i64>>,
    /// Changes per message.
    batch: usize,
}

impl FakeUsage {
    pub(crate) fn new() -> Self {
        Self { changes: Arc::default(), head: Arc::new(watch::Sender::new(0)), batch: 7 }
    }

    /// With so many changes per message.
    pub(crate) fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// An event becomes durable, or supersedes the one of its id. Positions have gaps, as the real ones may.
    pub(crate) fn record(&self, event: UsageEvent) {
        let mut changes = self.changes.lock().unwrap();
        let before =
            changes.iter().find(|(_, change)| id(change) == event.event_id).map(|(at, change)| (*at, change.revision));
        let revision = before.map_or(1, |(at, revision)| {
            changes.remove(&at);
            revision + 1
        });
        let position = *self.head.borrow() + 1 + i64::from(revision % 2);
        changes.insert(position, Change { position, event: Some(event), revision });
        self.head.send_replace(position);
    }

    /// Many new events at once.
    pub(crate) fn record_new(&self, events: impl IntoIterator<Item = UsageEvent>) {
        let mut changes = self.changes.lock().unwrap();
        let mut position = *self.head.borrow();
        for event in events {
            position += 1;
            changes.insert(position, Change { position, event: Some(event), revision: 1 });
        }
        self.head.send_replace(position);
    }

    /// All events as they stand.
    pub(crate) fn events(&self) -> Vec<(UsageEvent, i32)> {
        let changes = self.changes.lock().unwrap();
        changes.values().map(|change| (change.event.clone().unwrap(), change.revision)).collect()
    }

    /// A way to it, with all layers.
    pub(crate) async fn channel(&self, deployment: &Deployment, caller: &str) -> Channel {
        let routes = Routes::new(UsageServiceServer::new(self.clone()));
        deployment.channel(caller, &deployment.stack("usage", routes, ACCESS).await)
    }

    fn after(&self, position: i64) -> Vec<Change> {
        self.changes.lock().unwrap().range(position + 1..).take(self.batch).map(|(_, change)| change.clone()).collect()
    }
}

fn id(change: &Change) -> String {
    change.event.as_ref().map(|event| event.event_id.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl UsageService for FakeUsage {
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let WatchChangesRequest { after, until_now } = request.into_inner();
        let head = self.head.subscribe();
        if after > *head.borrow() {
            return Err(weir_rpc::Error::invalid("after", "beyond the head").into());
        }
        let state = (self.clone(), head, after, true);
        Ok(Response::new(Box::pin(futures::stream::unfold(state, move |(usage, mut head, after, first)| async move {
            let mut changes = usage.after(after);
            while changes.is_empty() && !first {
                if until_now || head.changed().await.is_err() {
                    return None;
                }
                changes = usage.after(after);
            }
            let after = changes.last().map_or(after, |change| change.position);
            let newest = *head.borrow();
            Some((Ok(WatchChangesResponse { changes, head: newest }), (usage, head, after, false)))
        }))))
    }

    async fn record_events(&self, _: Request<RecordEventsRequest>) -> Result<Response<RecordEventsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn query_usage(&self, _: Request<QueryUsageRequest>) -> Result<Response<QueryUsageResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    type ScanEventsStream = Pin<Box<dyn Stream<Item = Result<ScanEventsResponse, Status>> + Send>>;

    async fn scan_events(&self, _: Request<ScanEventsRequest>) -> Result<Response<Self::ScanEventsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A use of `gpt-4o-mini`: 150 nano-USD per input token, 600 per output token.
pub(crate) fn event(organization: OrganizationId, input: i64, output: i64) -> UsageEvent {
    UsageEvent {
        event_id: Uuid::now_v7().to_string(),
        source: "ai-broker".to_owned(),
        organization: names::organization(&organization),
        provider: "openai".to_owned(),
        model: "gpt-4o-mini".to_owned(),
        operation: "chat.completions".to_owned(),
        event_time: Some(timestamp(now())),
        input_tokens: input,
        output_tokens: output,
        cost_nano_usd: 150 * input + 600 * output,
        price_version: "2026-11-01+simulated-1".to_owned(),
        ..UsageEvent::default()
    }
}

pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: 0 }
}
