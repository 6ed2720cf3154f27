//! What all routes share: the services behind the facade, and calling them as the caller.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderValue;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::cache_service_client::CacheServiceClient;
use weir_proto::broker::v1::job_service_client::JobServiceClient;
use weir_proto::broker::v1::provider_key_service_client::ProviderKeyServiceClient;
use weir_proto::broker::v1::result_service_client::ResultServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_rpc::{Channel, Error, Failure};
use weir_types::Clock;

use crate::body::BodyLimits;
use crate::calls::headers::{FEATURE, PRIORITY};
use crate::calls::reuse::Reuse;
use crate::credentials::{Caller, Credentials, is_about_the_credential};
use crate::network::{self, Network};
use crate::refusal::Refusal;

/// The state of every route.
pub(crate) struct Facade {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) credentials: Credentials,
    pub(crate) auth: AuthServiceClient<Channel>,
    pub(crate) broker: BrokerServiceClient<Channel>,
    pub(crate) jobs: JobServiceClient<Channel>,
    pub(crate) results: ResultServiceClient<Channel>,
    pub(crate) cache: CacheServiceClient<Channel>,
    pub(crate) provider_keys: ProviderKeyServiceClient<Channel>,
    pub(crate) quota: QuotaServiceClient<Channel>,
    pub(crate) usage: UsageServiceClient<Channel>,
    pub(crate) billing: BillingServiceClient<Channel>,
    /// Of a call to a model.
    pub(crate) model_body: BodyLimits,
    /// Of a call with a file.
    pub(crate) upload_body: BodyLimits,
    /// Of our own API.
    pub(crate) api_body: BodyLimits,
    /// Room for calls to models.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) trusted_proxies: Vec<Network>,
}

/// A call to a model whose sender is known and whose body has been read.
pub(crate) struct Incoming {
    pub(crate) caller: Arc<Caller>,
    pub(crate) body: Bytes,
    /// Empty: not known.
    pub(crate) client_ip: String,
    /// What the client says of how much it needs the best model.
    pub(crate) priority: Option<HeaderValue>,
    /// What of the product it is for; empty: not said.
    pub(crate) feature: String,
    /// What the client says of answers that there are already.
    pub(crate) reuse: Reuse,
    /// Held until the answer has gone out.
    pub(crate) room: OwnedSemaphorePermit,
}

impl Facade {
    /// Finds room and identifies the caller first, and only then reads the body.
    pub(crate) async fn receive(&self, request: Request) -> Result<Incoming, Refusal> {
        self.receive_within(request, &self.model_body).await
    }

    /// The same for a body with a file in it.
    pub(crate) async fn receive_upload(&self, request: Request) -> Result<Incoming, Refusal> {
        self.receive_within(request, &self.upload_body).await
    }

    async fn receive_within(&self, request: Request, limits: &BodyLimits) -> Result<Incoming, Refusal> {
        let (head, body) = request.into_parts();
        let room = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            Error::new(ErrorReason::Overloaded, "Too many requests are being served.")
                .retry_after(Duration::from_secs(1))
        })?;
        let caller = self.credentials.caller(&head.headers).await?;
        let client_ip = network::client(&head.extensions, &head.headers, &self.trusted_proxies);
        let body = limits.read(&head.headers, body).await?;
        let client_ip = client_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let priority = head.headers.get(PRIORITY).cloned();
        let feature = head.headers.get(FEATURE).map(HeaderValue::to_str).transpose();
        let feature = feature.map_err(|_| Error::invalid(FEATURE, "must be visible ASCII characters"))?;
        let feature = feature.unwrap_or_default().to_owned();
        let reuse = Reuse::read(&head.headers)?;
        Ok(Incoming { caller, body, client_ip, priority, feature, reuse, room })
    }

    /// Calls a service as the caller. A token that is refused is forgotten.
    pub(crate) async fn as_caller<M, R>(
        &self,
        caller: &Caller,
        message: M,
        call: impl AsyncFnOnce(tonic::Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Refusal> {
        call(caller.bearer.request(message)).await.map(Response::into_inner).map_err(|status| {
            let failure = Failure::from(status);
            if is_about_the_credential(failure.reason()) {
                self.credentials.forget(caller);
            }
            failure.into()
        })
    }
}
