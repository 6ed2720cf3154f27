//! How the services call each other: errors, identities, deadlines, and the layers on both sides.
//!
//! # A service
//! One row per RPC says who may call it; what has no row is refused. A handler finds the [`caller`] in its request, asks it
//! for the tenant, and answers with [`Error`]s, which become statuses by `?`:
//!
//! ```
//! use tonic::{Request, Response, Status};
//! use weir_proto::auth::v1::{ListUsersRequest, ListUsersResponse};
//! use weir_rpc::{Access, Error, caller};
//! use weir_types::Scope;
//!
//! // access.rs
//! pub const ACCESS: &[(&str, Access)] = &[
//!     ("/weir.auth.v1.AuthService/GetSigningKeys", Access::AnyService),
//!     ("/weir.auth.v1.AuthService/ListUsers", Access::ScopeOrServices(Scope::UsersManage, &["facade", "operator"])),
//! ];
//!
//! // grpc/mod.rs, in `impl AuthService for ...`
//! async fn list_users(request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
//!     let organization = caller(&request).organization(&request.get_ref().parent)?;
//!     Ok(Response::new(app_list_users(organization).await?))
//! }
//! # async fn app_list_users(_: weir_types::OrganizationId) -> Result<ListUsersResponse, Error> { Ok(Default::default()) }
//! ```
//!
//! The test of the table, in every service:
//!
//! ```no_run
//! # const ACCESS: &[(&str, weir_rpc::Access)] = &[];
//! assert_eq!(weir_rpc::uncovered("weir.auth.v1.AuthService", ACCESS), Vec::<String>::new());
//! ```
//!
//! # A client
//! ```
//! # async fn f(channel: weir_rpc::Channel, request: weir_proto::quota::v1::ReserveRequest) {
//! use weir_proto::common::v1::ErrorReason;
//! use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
//! use weir_rpc::Failure;
//!
//! // Once, at start: `let channel = context.channels.to("quota");`. Clones are cheap.
//! let mut quota = QuotaServiceClient::new(channel.clone()).max_decoding_message_size(channel.max_message_bytes());
//! match quota.reserve(request).await.map_err(Failure::from) {
//!     Ok(answer) => {}
//!     Err(failure) if failure.reason() == ErrorReason::QuotaExceeded => {}
//!     Err(failure) => {}
//! }
//! # }
//! ```
//! The call carries the service's own token, or the principal's when the request was made by [`Bearer::request`]; the id and
//! the deadline of the request that is being served go along by themselves ([`Call`]). The facade, whose requests come by
//! HTTP, enters one: `Call::new(id, deadline).scope(handler)`.

mod access;
mod call;
mod caller;
mod channel;
mod config;
mod error;
mod methods;
mod routes;
mod stack;
#[cfg(feature = "testing")]
#[allow(clippy::expect_used, clippy::missing_panics_doc, reason = "tests")]
pub mod testing;
mod token;
mod verifier;

pub use access::{Access, uncovered};
pub use call::{Call, REQUEST_ID, request_id};
pub use caller::{Caller, Principal, ServiceName, caller, deadline, ends_itself, shared_caller, stopping};
pub use channel::{Channel, LocalSlot};
pub use config::{ClientConfig, Config, DEFAULTS, ServerConfig};
pub use error::{DOMAIN, Error, Failure, ProviderError, Violation};
pub use methods::{Method, all_methods, methods};
pub use routes::Routes;
pub use stack::{Health, Stack, Stacked};
pub use token::{
    AUDIENCE, Bearer, MAX_TOKEN_LIFETIME, PRINCIPAL_ISSUER, PrincipalClaims, SERVICE_ISSUER, ServiceIdentity,
};
pub use verifier::{Revocations, Revoked, Verifier};
