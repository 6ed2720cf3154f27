//! Kept answers over gRPC.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use weir_proto::broker::v1::cache_service_server::CacheService;
use weir_proto::broker::v1::{
    CacheDirectives, CachePolicy, GetCachePolicyRequest, PurgeCacheRequest, PurgeCacheResponse,
    UpdateCachePolicyRequest,
};
use weir_rpc::{Error, Principal};
use weir_types::{OrganizationId, names};

use crate::app::Cache;
use crate::domain::cache::{TenantPolicy, Wish};
use crate::domain::idempotency::is_key;

/// Serves [`CacheService`].
pub(crate) struct CacheGrpc(pub(crate) Arc<Cache>);

#[tonic::async_trait]
impl CacheService for CacheGrpc {
    async fn get_cache_policy(&self, request: Request<GetCachePolicyRequest>) -> Result<Response<CachePolicy>, Status> {
        let organization = owner(weir_rpc::caller(&request).principal()?, &request.get_ref().name)?;
        Ok(Response::new(rendered(organization, self.0.policy(organization).await?)))
    }

    async fn update_cache_policy(
        &self,
        request: Request<UpdateCachePolicyRequest>,
    ) -> Result<Response<CachePolicy>, Status> {
        let asked = request.get_ref().policy.clone().unwrap_or_default();
        let organization = owner(weir_rpc::caller(&request).principal()?, &asked.name)?;
        let policy =
            TenantPolicy { enabled: asked.enabled, shared: asked.shared, max_ttl: span("max_ttl", asked.max_ttl)? };
        self.0.set_policy(organization, policy).await?;
        Ok(Response::new(rendered(organization, policy)))
    }

    async fn purge_cache(&self, request: Request<PurgeCacheRequest>) -> Result<Response<PurgeCacheResponse>, Status> {
        let organization = owner(weir_rpc::caller(&request).principal()?, &request.get_ref().name)?;
        let entries = self.0.purge(organization).await?;
        Ok(Response::new(PurgeCacheResponse { entries: i64::try_from(entries).unwrap_or(i64::MAX) }))
    }
}

const NAME: &str = "/cachePolicy";

/// Whose policy it is, if it is the caller's own.
fn owner(principal: &Principal, name: &str) -> Result<OrganizationId, Error> {
    let organization = name.strip_suffix(NAME).and_then(|organization| names::parse_organization(organization).ok());
    let own = organization.filter(|organization| *organization == principal.organization);
    own.ok_or_else(|| Error::not_found(name))
}

fn rendered(organization: OrganizationId, policy: TenantPolicy) -> CachePolicy {
    CachePolicy {
        name: format!("{}{NAME}", names::organization(&organization)),
        enabled: policy.enabled,
        shared: policy.shared,
        max_ttl: policy.max_ttl.and_then(|ttl| ttl.try_into().ok()),
    }
}

/// What a request says of kept answers.
pub(super) fn wish(asked: Option<CacheDirectives>) -> Result<Wish, Error> {
    let Some(CacheDirectives { no_store, no_cache, max_age, key }) = asked else { return Ok(Wish::default()) };
    let key = match key {
        key if key.is_empty() => None,
        key if is_key(&key) => Some(key),
        _ => return Err(Error::invalid("cache.key", "must have 1 to 255 visible ASCII characters")),
    };
    Ok(Wish { no_store, no_cache, max_age: span("cache.max_age", max_age)?, key })
}

/// A span of at least a second, if there is one.
fn span(field: &'static str, span: Option<prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let Some(span) = span else { return Ok(None) };
    let span = Duration::try_from(span).ok().filter(|span| *span >= Duration::from_secs(1));
    span.map(Some).ok_or_else(|| Error::invalid(field, "must be at least 1s"))
}
