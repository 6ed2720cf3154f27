//! `weir.usage.v1.UsageService`: parse, call one use case, map back.

mod from_proto;
mod to_proto;

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weir_proto::usage::v1 as pb;
use weir_proto::usage::v1::usage_service_server::{UsageService, UsageServiceServer};
use weir_rpc::{Error, caller, deadline};

use crate::app::{self, Feed, Recorder};
use crate::storage::Store;

/// The service.
pub(crate) struct Api {
    pub(crate) recorder: Recorder,
    pub(crate) store: Store,
    pub(crate) feed: Feed,
    pub(crate) shutdown: CancellationToken,
}

impl Api {
    /// As a server. A batch of 5,000 events takes about 2 MiB, tonic's own limit is 4 MiB.
    pub(crate) fn into_server(self, max_message_bytes: usize) -> UsageServiceServer<Self> {
        UsageServiceServer::new(self)
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(max_message_bytes)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl UsageService for Api {
    async fn record_events(
        &self,
        request: Request<pb::RecordEventsRequest>,
    ) -> Result<Response<pb::RecordEventsResponse>, Status> {
        let deadline = deadline(&request);
        let events = request.into_inner().events.into_iter().map(from_proto::event).collect();
        let answers = self.recorder.record(events, deadline).await.map_err(status)?;
        let outcomes = answers.into_iter().map(to_proto::outcome).collect();
        Ok(Response::new(pb::RecordEventsResponse { outcomes }))
    }

    async fn query_usage(
        &self,
        request: Request<pb::QueryUsageRequest>,
    ) -> Result<Response<pb::QueryUsageResponse>, Status> {
        let organization = caller(&request).organization(&request.get_ref().organization)?;
        let question = from_proto::question(organization, request.into_inner())?;
        let (lines, next_page_token) = app::query_usage(&self.store, &question).await.map_err(status)?;
        let rows = lines.into_iter().map(|line| to_proto::row(&question.query, line)).collect();
        Ok(Response::new(pb::QueryUsageResponse { rows, next_page_token }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let organization = caller(&request).organization(&request.get_ref().parent)?;
        let list = from_proto::list(organization, request.into_inner())?;
        let (events, next_page_token) = app::list_events(&self.store, &list).await.map_err(status)?;
        let events = events.into_iter().map(to_proto::event).collect();
        Ok(Response::new(pb::ListEventsResponse { events, next_page_token }))
    }

    type WatchChangesStream = Answers<pb::WatchChangesResponse>;

    async fn watch_changes(
        &self,
        request: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let pb::WatchChangesRequest { after, until_now } = request.into_inner();
        if after < 0 {
            return Err(Error::invalid("after", "must not be negative").into());
        }
        let changes = app::watch_changes(self.store.clone(), &self.feed, after, until_now, self.shutdown.clone());
        let changes = changes.await.map_err(status)?;
        Ok(Response::new(Box::pin(changes.map(|part| part.map(to_proto::progress).map_err(status)))))
    }

    type ScanEventsStream = Answers<pb::ScanEventsResponse>;

    async fn scan_events(
        &self,
        request: Request<pb::ScanEventsRequest>,
    ) -> Result<Response<Self::ScanEventsStream>, Status> {
        let organization = match request.get_ref().organization.as_str() {
            "" => None,
            name => Some(caller(&request).organization(name)?),
        };
        let after = from_proto::scan_after(&request.get_ref().after)?;
        let events = app::scan_events(self.store.clone(), organization, after);
        Ok(Response::new(Box::pin(events.map(|chunk| chunk.map(to_proto::scanned).map_err(status)))))
    }
}

fn status(error: crate::error::Error) -> Status {
    Error::from(error).into()
}
