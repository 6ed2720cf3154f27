//! Credentials: from what a caller sends to the principal token that the services verify.
//!
//! An API key is exchanged at auth once, however many requests come with it, and its token kept under the hash of the
//! whole credential. It is renewed ahead of its end, while requests go on with the old one: when auth is away, known
//! callers go on until their token ends.

mod caller;
mod exchanges;
mod header;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use ring::digest::{SHA256, digest};
use tokio_util::task::TaskTracker;
use weir_proto::auth::v1::ExchangeApiKeyRequest;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Channel, Error, Failure};
use weir_types::Clock;

pub(crate) use caller::Caller;
use exchanges::Exchanges;

use crate::refusal::Refusal;

/// The longest that auth may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// SHA-256 of a whole credential.
type Hash = [u8; 32];

#[derive(Clone)]
enum Known {
    Accepted(Arc<Caller>),
    Refused(Arc<Refused>),
}

/// Why auth is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Unknown,
    Renewal,
}

struct Refused {
    refusal: Refusal,
    until: DateTime<Utc>,
}

/// Exchanges credentials and remembers the answers.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<State>);

struct State {
    auth: AuthServiceClient<Channel>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    known: moka::sync::Cache<Hash, Known>,
    exchanges: Exchanges,
    refused_for: Duration,
}

impl Credentials {
    /// Remembers up to `capacity` callers; refusals for `refused_for`.
    pub(crate) fn new(
        auth: AuthServiceClient<Channel>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
        capacity: u64,
        refused_for: Duration,
    ) -> Self {
        let known = moka::sync::Cache::new(capacity);
        Self(Arc::new(State { auth, clock, tasks, known, exchanges: Exchanges::default(), refused_for }))
    }

    /// Who sends these headers.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let credential = header::credential(headers)?;
        let hash = hash(credential);
        let now = self.0.clock.now();
        match self.0.known.get(&hash) {
            Some(Known::Accepted(caller)) if caller.is_valid(now) => {
                if caller.is_to_be_renewed(now) {
                    self.0.tasks.spawn(self.exchange(credential, hash, Reason::Renewal).map(drop));
                }
                return Ok(caller);
            }
            Some(Known::Refused(refused)) if refused.until > now => return Err(refused.refusal.clone()),
            _ => {}
        }
        if header::is_token(credential) {
            return Caller::with_token(credential, hash).map(Arc::new);
        }
        header::check_key(credential)?;
        self.exchange(credential, hash, Reason::Unknown).await
    }

    /// Forgets a caller whose token a service refused: the next request asks auth again.
    pub(crate) fn forget(&self, caller: &Caller) {
        self.0.known.invalidate(caller.credential());
    }

    /// Asks auth; all that ask for the same credential at the same time share one answer.
    fn exchange(
        &self,
        credential: &str,
        hash: Hash,
        reason: Reason,
    ) -> impl Future<Output = Result<Arc<Caller>, Refusal>> + Send + 'static {
        let state = &self.0;
        state.exchanges.join(hash, || {
            let (state, secret) = (Arc::clone(state), credential.to_owned());
            async move { state.ask(secret, hash, reason).await }
        })
    }
}

impl State {
    async fn ask(&self, secret: String, hash: Hash, reason: Reason) -> Result<Arc<Caller>, Refusal> {
        // An exchange that ended just before this one began.
        if reason == Reason::Unknown
            && let Some(Known::Accepted(caller)) = self.known.get(&hash)
            && caller.is_valid(self.clock.now())
        {
            return Ok(caller);
        }
        let mut request = tonic::Request::new(ExchangeApiKeyRequest { secret });
        request.set_timeout(DEADLINE);
        match self.auth.clone().exchange_api_key(request).await {
            Ok(token) => {
                let now = self.clock.now();
                let caller = Caller::exchanged(token.into_inner(), hash, now).map_err(Error::defect)?;
                let caller = Arc::new(caller);
                self.known.insert(hash, Known::Accepted(Arc::clone(&caller)));
                Ok(caller)
            }
            Err(status) => {
                let refusal = Refusal::from(Failure::from(status));
                // Only what auth says about the credential is remembered; that it is away is no answer.
                if is_about_the_credential(refusal.reason()) {
                    let refused = Refused { until: self.clock.now() + self.refused_for, refusal: refusal.clone() };
                    self.known.insert(hash, Known::Refused(Arc::new(refused)));
                }
                Err(refusal)
            }
        }
    }
}

/// Whether a refusal says something about the credential, rather than about the service that was asked.
pub(crate) fn is_about_the_credential(reason: ErrorReason) -> bool {
    matches!(reason, ErrorReason::Unauthenticated | ErrorReason::CredentialRevoked)
}

fn hash(credential: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, credential.as_bytes()).as_ref());
    hash
}
