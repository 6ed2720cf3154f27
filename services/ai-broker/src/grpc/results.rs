//! Results over gRPC: messages to use cases and back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use weir_proto::broker::v1::result_service_server::ResultService;
use weir_proto::broker::v1::{
    self as proto, ByteRange, DeleteResultRequest, DeleteResultResponse, GetResultRequest, GetResultSettingsRequest,
    ListResultsRequest, ListResultsResponse, ReadResultRequest, ReadResultResponse, StoredResult,
    UpdateResultSettingsRequest, byte_range,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::{OrganizationId, names};

use super::resources::{child, next, own, page};
use crate::app::results::{Owned, Reading, Results, Served};
use crate::domain::results::{Extent, Link, Part, PartBytes};
use crate::storage::results::ResultSettings;

/// Serves [`ResultService`].
pub(crate) struct ResultsGrpc(
    /// None without object storage.
    pub(crate) Option<Arc<Results>>,
);

/// The tags that are looked at of those that a reader has.
const MOST_TAGS: usize = 64;

const NO_STORAGE: &str =
    "No object storage is configured here. An operator names a folder or a bucket in `[broker.results]`.";

impl ResultsGrpc {
    fn results(&self) -> Result<&Results, Error> {
        self.0.as_deref().ok_or_else(|| Error::new(ErrorReason::Unimplemented, NO_STORAGE))
    }
}

#[tonic::async_trait]
impl ResultService for ResultsGrpc {
    async fn read_result(&self, request: Request<ReadResultRequest>) -> Result<Response<ReadResultResponse>, Status> {
        let asked = request.into_inner();
        let nothing = || Error::new(ErrorReason::NotFound, "There is nothing at this address.");
        let results = self.results().map_err(|_| nothing())?;
        let organization = asked.organization.parse().map_err(|_| nothing())?;
        let link = (!asked.signature.is_empty()).then_some(Link { expires: asked.expires, signature: asked.signature });
        let part = asked.range.and_then(bytes).map(|bytes| Part { bytes, of: asked.range_etag });
        let known = asked.known_etags.into_iter().take(MOST_TAGS).collect();
        let served = results.read(Reading { organization, file: asked.file, link, known, part }).await?;
        Ok(Response::new(read(served)))
    }

    async fn get_result(&self, request: Request<GetResultRequest>) -> Result<Response<StoredResult>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let (organization, id) = child(principal, &request.get_ref().name, "/results/")?;
        Ok(Response::new(stored(self.results()?.get(organization, id).await?)))
    }

    async fn list_results(
        &self,
        request: Request<ListResultsRequest>,
    ) -> Result<Response<ListResultsResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let asked = request.get_ref();
        let organization = own(principal, &asked.parent)?;
        let list = format!("results of {organization}");
        let page = page(&list, asked.page_size, &asked.page_token)?;
        let (listed, more) = self.results()?.list(organization, page).await?;
        let last = listed.last().map(|owned| owned.object.result_id);
        Ok(Response::new(ListResultsResponse {
            results: listed.into_iter().map(stored).collect(),
            next_page_token: next(&list, last.filter(|_| more)),
        }))
    }

    async fn delete_result(
        &self,
        request: Request<DeleteResultRequest>,
    ) -> Result<Response<DeleteResultResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let (organization, id) = child(principal, &request.get_ref().name, "/results/")?;
        self.results()?.delete(organization, id).await?;
        Ok(Response::new(DeleteResultResponse {}))
    }

    async fn get_result_settings(
        &self,
        request: Request<GetResultSettingsRequest>,
    ) -> Result<Response<proto::ResultSettings>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let organization = settings_of(&request.get_ref().name).filter(|named| *named == principal.organization);
        let organization = organization.ok_or_else(|| Error::not_found(&request.get_ref().name))?;
        let settings = self.results()?.settings(organization).await?;
        Ok(Response::new(shown(organization, settings)))
    }

    async fn update_result_settings(
        &self,
        request: Request<UpdateResultSettingsRequest>,
    ) -> Result<Response<proto::ResultSettings>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let asked = request.get_ref().settings.as_ref().ok_or_else(|| Error::invalid("settings", "is required"))?;
        let organization = settings_of(&asked.name).filter(|named| *named == principal.organization);
        let organization = organization.ok_or_else(|| Error::not_found(&asked.name))?;
        let retention = asked.retention.as_ref().map(|span| span.seconds);
        let settings = ResultSettings { enabled: asked.enabled, retention };
        self.results()?.set(organization, settings).await?;
        Ok(Response::new(shown(organization, settings)))
    }
}

fn settings_of(name: &str) -> Option<OrganizationId> {
    names::parse_organization(name.strip_suffix("/resultSettings")?).ok()
}

fn shown(organization: OrganizationId, settings: ResultSettings) -> proto::ResultSettings {
    proto::ResultSettings {
        name: format!("{}/resultSettings", names::organization(&organization)),
        enabled: settings.enabled,
        retention: settings.retention.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    }
}

fn bytes(range: ByteRange) -> Option<PartBytes> {
    Some(match range.from? {
        byte_range::From::First(first) => {
            PartBytes::From { first: first.try_into().ok()?, last: range.last.map(u64::try_from).transpose().ok()? }
        }
        byte_range::From::Suffix(count) => PartBytes::Suffix(count.try_into().ok()?),
    })
}

fn read(served: Served) -> ReadResultResponse {
    let (extent, first) = match served.extent {
        Extent::Whole => (proto::Extent::Whole, 0),
        Extent::Part(range) => (proto::Extent::Part, range.start),
        Extent::NotModified => (proto::Extent::NotModified, 0),
        Extent::Unsatisfiable => (proto::Extent::Unsatisfiable, 0),
    };
    ReadResultResponse {
        content: served.bytes,
        content_type: served.object.content_type,
        etag: served.object.etag,
        public: served.object.public,
        fresh_for: served.fresh_for.try_into().ok(),
        total_bytes: served.object.bytes,
        extent: extent.into(),
        first: i64::try_from(first).unwrap_or(i64::MAX),
    }
}

fn stored(owned: Owned) -> StoredResult {
    let Owned { object, url } = owned;
    let organization = OrganizationId::from(object.organization_id);
    StoredResult {
        name: format!("{}/results/{}", names::organization(&organization), object.result_id),
        url,
        content_type: object.content_type,
        bytes: object.bytes,
        public: object.public,
        create_time: Some(timestamp(object.created_at)),
        expire_time: Some(timestamp(object.expires_at)),
    }
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
