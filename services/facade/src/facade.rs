//! What all routes share: the services behind the facade, and calling them as the caller.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::{Response, Status};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_rpc::{Call, Channel, Error, Failure};

use crate::credentials::{Caller, Credentials};

/// The state of every route.
pub(crate) struct Facade {
    pub(crate) credentials: Credentials,
    pub(crate) auth: AuthServiceClient<Channel>,
    pub(crate) broker: BrokerServiceClient<Channel>,
    pub(crate) quota: QuotaServiceClient<Channel>,
    pub(crate) usage: UsageServiceClient<Channel>,
    pub(crate) billing: BillingServiceClient<Channel>,
    pub(crate) max_body_bytes: usize,
    /// Of a call to a model.
    pub(crate) deadline: Duration,
    /// Of everything else.
    pub(crate) api_deadline: Duration,
    /// Room for calls to models.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) trusted_proxies: Vec<IpAddr>,
}

/// A request whose sender is known and whose body has been read.
pub(crate) struct Incoming {
    pub(crate) caller: Arc<Caller>,
    pub(crate) body: Bytes,
    pub(crate) client_ip: String,
    /// Room among the requests in flight, until the answer's head goes out.
    _room: OwnedSemaphorePermit,
}

impl Facade {
    /// Identifies the caller first, then reads the body, within its bound.
    pub(crate) async fn receive(&self, request: Request) -> Result<Incoming, Error> {
        let (head, body) = request.into_parts();
        let room = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            Error::new(ErrorReason::Overloaded, "too many requests are being served")
                .retry_after(Duration::from_secs(1))
        })?;
        let caller = self.credentials.caller(&head.headers).await?;
        let client_ip = self.client_ip(&head.extensions, &head.headers);
        let stated = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if stated.is_some_and(|length| length > self.max_body_bytes) {
            return Err(self.too_large());
        }
        match Limited::new(body, self.max_body_bytes).collect().await {
            Ok(body) => Ok(Incoming { caller, body: body.to_bytes(), client_ip, _room: room }),
            Err(error) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Err(error) => Err(Error::new(ErrorReason::InvalidArgument, "the body could not be read").internal(error)),
        }
    }

    fn too_large(&self) -> Error {
        Error::new(ErrorReason::TooLarge, format!("the body is larger than {} bytes", self.max_body_bytes))
    }

    /// Serves a request under its id and within `limit`: both go along to every service that it needs.
    pub(crate) async fn serve<F: Future>(&self, id: &HeaderValue, limit: Duration, handler: F) -> F::Output {
        Call::new(id.clone(), Some(Instant::now() + limit)).scope(handler).await
    }

    /// Calls a service as the caller. A token that is refused is forgotten, so that the next request
    /// asks auth again.
    pub(crate) async fn as_caller<M, R>(
        &self,
        caller: &Caller,
        message: M,
        call: impl AsyncFnOnce(tonic::Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        call(caller.bearer.request(message)).await.map(Response::into_inner).map_err(|status| {
            let failure = Failure::from(&status);
            if matches!(failure.reason(), ErrorReason::Unauthenticated | ErrorReason::CredentialRevoked) {
                self.credentials.forget(caller);
            }
            failure.into()
        })
    }

    /// The address of the client: the peer's, or what a trusted proxy says.
    fn client_ip(&self, extensions: &Extensions, headers: &HeaderMap) -> String {
        let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() else { return String::new() };
        let peer = peer.ip();
        let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let client = match forwarded {
            Some(hops) if self.trusted_proxies.contains(&peer) => {
                let untrusted = |hop: &IpAddr| !self.trusted_proxies.contains(hop);
                hops.rsplit(',').filter_map(|hop| hop.trim().parse().ok()).find(untrusted).unwrap_or(peer)
            }
            _ => peer,
        };
        client.to_string()
    }
}
