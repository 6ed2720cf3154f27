//! Who is calling.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_proto::common::v1::ErrorReason;
use weir_types::{ApiKeyId, OrganizationId, Scope, ScopeSet, UserId, names};

use crate::Error;

/// Who is calling: a service of this deployment, or a principal of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A service (or the `weir` command line, which calls itself `operator`).
    Service(ServiceName),
    /// A user or an API key of an organisation.
    Principal(Principal),
}

/// A service's name, such as `ai-broker`.
pub type ServiceName = Arc<str>;

/// On whose behalf a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant.
    pub organization: OrganizationId,
    /// The user, unless it is a key of the organisation itself.
    pub user: Option<UserId>,
    /// The API key that the token was exchanged for, unless it was a sign-in.
    pub api_key: Option<ApiKeyId>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When the token ends.
    pub token_expires: DateTime<Utc>,
}

/// What the stack found out about a request before it reached the handler.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) caller: Arc<Caller>,
    pub(crate) deadline: Option<Instant>,
    /// Of a stream.
    pub(crate) stopping: Option<CancellationToken>,
}

/// Who sent this request.
///
/// # Panics
/// When the request did not come through a [`Stack`](crate::Stack): behind one, no handler runs without a caller.
#[expect(clippy::expect_used, reason = "a handler that runs without authentication must not go on")]
pub fn caller<T>(request: &tonic::Request<T>) -> &Caller {
    &request.extensions().get::<Admitted>().expect("a request that came through the stack").caller
}

/// As [`caller`], to keep after the request has been taken apart.
///
/// # Panics
/// As [`caller`].
#[expect(clippy::expect_used, reason = "a handler that runs without authentication must not go on")]
pub fn shared_caller<T>(request: &tonic::Request<T>) -> Arc<Caller> {
    Arc::clone(&request.extensions().get::<Admitted>().expect("a request that came through the stack").caller)
}

/// When the answer to this request is of no more use.
pub fn deadline<T>(request: &tonic::Request<T>) -> Option<Instant> {
    request.extensions().get::<Admitted>()?.deadline
}

/// Cancelled when the process is about to stop; only streams are told. For a stream that [`ends_itself`].
pub fn stopping<T>(request: &tonic::Request<T>) -> CancellationToken {
    request.extensions().get::<Admitted>().and_then(|admitted| admitted.stopping.clone()).unwrap_or_default()
}

/// On the answer of a stream that has no deadline and follows [`stopping`]: the layers do not cut it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndsItself;

/// Marks a stream that finishes what it has begun when it is told to [`stop`](stopping), and then ends. Others are ended where
/// they stand. What does not end within the process's drain is cut all the same.
#[must_use]
pub fn ends_itself<T>(mut response: tonic::Response<T>) -> tonic::Response<T> {
    response.extensions_mut().insert(EndsItself);
    response
}

impl Caller {
    /// The organisation that a request names (`organizations/{organization}`), if the caller may act in it:
    /// principals only in their own, services in any.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it is no such name, `NOT_FOUND` when it is another's: nobody learns what exists.
    pub fn organization(&self, name: &str) -> Result<OrganizationId, Error> {
        let organization =
            names::parse_organization(name).map_err(|error| Error::invalid("organization", error.to_string()))?;
        self.may_see(organization, name)?;
        Ok(organization)
    }

    /// Refuses unless the caller may act in `organization`; `name` is what the request called for.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn may_see(&self, organization: OrganizationId, name: &str) -> Result<(), Error> {
        match self {
            Self::Service(_) => Ok(()),
            Self::Principal(principal) if principal.organization == organization => Ok(()),
            Self::Principal(_) => Err(Error::not_found(name)),
        }
    }

    /// The principal.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a service: the call is made on somebody's behalf or not at all.
    pub fn principal(&self) -> Result<&Principal, Error> {
        match self {
            Self::Principal(principal) => Ok(principal),
            Self::Service(_) => {
                Err(Error::new(ErrorReason::PermissionDenied, "this call is made on behalf of a user or an API key"))
            }
        }
    }

    /// Whether it is a service.
    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }

    /// Whether the caller has this scope; a service has all.
    #[must_use]
    pub const fn has(&self, scope: Scope) -> bool {
        match self {
            Self::Service(_) => true,
            Self::Principal(principal) => principal.scopes.contains(scope),
        }
    }
}
