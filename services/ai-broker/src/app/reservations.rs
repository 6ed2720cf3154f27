//! Reservations: made before every provider request, known here until they are settled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_proto::broker::v1::RateLimit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{LimitState, ReserveRequest, ReserveResponse};
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::{Channel, Error, Failure};
use weir_types::{OrganizationId, ReservationId, unit};

use super::Broker;
use super::call::ModelCall;
use super::spans;
use crate::provider::KEY_LABEL;

/// How reservations are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReserveOptions {
    pub(crate) lease: Duration,
    pub(crate) deadline: Duration,
    pub(crate) max_unsettled: usize,
}

/// Makes reservations, and knows those of this broker that are not settled.
#[derive(Debug)]
pub(crate) struct Reservations {
    pub(crate) quota: QuotaServiceClient<Channel>,
    pub(crate) options: ReserveOptions,
    live: Mutex<HashMap<ReservationId, Lease>>,
    room: Arc<Semaphore>,
    /// Of quota's fast store; another number means that it has lost data.
    epoch: AtomicU64,
}

/// What keeps a reservation alive, and announces it again if the store loses it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) handle: Bytes,
    pub(crate) context: Bytes,
    pub(crate) renewed: Instant,
}

/// A reservation that is held for a call. It ends by being given to the settler.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: ReservationId,
    pub(crate) organization: OrganizationId,
    pub(crate) handle: Bytes,
    /// What is recorded if nothing better is known.
    pub(crate) draft: UsageEvent,
    limits: Vec<LimitState>,
    pub(crate) live: Live,
    /// Of the provider request that it is held for.
    pub(crate) span: tracing::Span,
}

/// Keeps a reservation known, its lease renewed and its room taken until it is settled. One that is
/// dropped without that (a call that was cut off) is left to expire and be taken over.
#[derive(Debug)]
pub(crate) struct Live {
    id: ReservationId,
    reservations: Arc<Reservations>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.reservations.live.lock().remove(&self.id);
    }
}

impl Reservations {
    pub(crate) fn new(quota: QuotaServiceClient<Channel>, options: ReserveOptions) -> Self {
        let room = Arc::new(Semaphore::new(options.max_unsettled));
        Self { quota, options, live: Mutex::default(), room, epoch: AtomicU64::new(0) }
    }

    /// Calls that are under way or not settled yet.
    pub(crate) fn live(&self) -> usize {
        self.live.lock().len()
    }

    /// Leases that were last renewed before `before`.
    pub(crate) fn renewed_before(&self, before: Instant) -> Vec<(ReservationId, Lease)> {
        let live = self.live.lock();
        live.iter().filter(|(_, lease)| lease.renewed < before).map(|(id, lease)| (*id, lease.clone())).collect()
    }

    /// The lease was renewed now.
    pub(crate) fn renewed(&self, id: &ReservationId) {
        if let Some(lease) = self.live.lock().get_mut(id) {
            lease.renewed = Instant::now();
        }
    }

    /// Takes note of the store's epoch; answers whether it is another than before.
    pub(crate) fn note_epoch(&self, epoch: u64) -> bool {
        let before = self.epoch.swap(epoch, Ordering::Relaxed);
        before != 0 && before != epoch
    }

    /// Room for one more unsettled call.
    pub(crate) fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            Error::new(ErrorReason::Overloaded, "too many calls wait to be settled").retry_after(Duration::from_secs(1))
        })
    }
}

/// Quota's last word on a reservation that it did not grant.
struct Unreserved {
    failure: Failure,
    /// One of the requests may be carried out all the same, however clear the last answer is: it can still be on its way.
    unclear: bool,
}

/// Why there is no reservation.
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// Only limits of the provider itself refuse.
    pub(crate) room: Option<NoRoom>,
    /// A limit of the caller refuses.
    pub(crate) denied: bool,
}

/// How soon a call that waits for another one's end looks again: nobody is told when one ends.
const CONCURRENT_LOOK: Duration = Duration::from_millis(50);

/// The provider, or one key of it, is at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    /// For so long.
    pub(crate) wait: Duration,
    /// Whichever key is used.
    pub(crate) whole: bool,
}

impl NoRoom {
    /// What a refusal says of the provider's room; none if a limit of the caller refuses, too.
    fn of(failure: &Failure) -> Option<Self> {
        let violations = failure.violations();
        let scopes = || violations.iter().map(|one| failure.figure(&one.subject, "scope"));
        let of_provider = |scope: Option<&str>| matches!(scope, Some("provider" | KEY_LABEL));
        let is_full =
            failure.reason() == ErrorReason::QuotaExceeded && !violations.is_empty() && scopes().all(of_provider);
        let concurrent = || violations.iter().all(|one| failure.figure(&one.subject, "unit") == Some(unit::CONCURRENT));
        is_full.then(|| Self {
            wait: if concurrent() { CONCURRENT_LOOK } else { failure.retry_after().unwrap_or(Duration::from_secs(1)) },
            whole: scopes().any(|scope| scope == Some("provider")),
        })
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, room: None, denied: false }
    }
}

impl Broker {
    /// Reserves the call's worst case under `id`, for an attempt with the provider's key at `key`; with none, by the caller's own.
    pub(crate) async fn reserve(
        &self,
        call: &ModelCall,
        id: ReservationId,
        key: Option<usize>,
    ) -> Result<Held, Refused> {
        let room = self.reservations.room()?;
        let draft = call.draft(id, self.clock.now());
        let context = Bytes::from(draft.encode_to_vec());
        let response = match self.ask_quota(call, id, key, &context).await {
            Ok(response) => response,
            Err(Unreserved { failure, unclear }) => {
                if unclear {
                    self.settler.release_unanswered(call.caller.organization, id, room);
                }
                let room = NoRoom::of(&failure);
                let denied = matches!(failure.reason(), ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted);
                // Its silence is not the provider's: the call can be made again, and of a job's tries none is used up.
                let error = match failure.reason() {
                    ErrorReason::DeadlineExceeded => {
                        Error::unavailable("quota", "no answer in time").retry_after(Duration::from_secs(1))
                    }
                    _ => call.refused(failure),
                };
                return Err(Refused { error, room, denied });
            }
        };
        if self.reservations.note_epoch(response.epoch) {
            tracing::warn!("quota's fast store has lost data: live reservations are announced again");
        }
        let lease = Lease { handle: response.handle.clone(), context, renewed: Instant::now() };
        self.reservations.live.lock().insert(id, lease);
        let live = Live { id, reservations: Arc::clone(&self.reservations), _room: room };
        let ReserveResponse { handle, limits, .. } = response;
        let span = spans::provider_request(call, id);
        Ok(Held { id, organization: call.caller.organization, handle, draft, limits, live, span })
    }

    /// Goes on with a reservation that another broker, or an earlier life of this one, has made.
    ///
    /// # Errors
    /// There is no room for one more unsettled call.
    pub(crate) fn adopt_reservation(
        &self,
        call: &ModelCall,
        id: ReservationId,
        handle: Bytes,
        draft: UsageEvent,
    ) -> Result<Held, Error> {
        let room = self.reservations.room()?;
        // Its lease is renewed with the next ones that are due.
        let renewed = Instant::now().checked_sub(self.reservations.options.lease).unwrap_or_else(Instant::now);
        let lease = Lease { handle: handle.clone(), context: draft.encode_to_vec().into(), renewed };
        self.reservations.live.lock().insert(id, lease);
        let live = Live { id, reservations: Arc::clone(&self.reservations), _room: room };
        let span = spans::provider_request(call, id);
        Ok(Held { id, organization: call.caller.organization, handle, draft, limits: Vec::new(), live, span })
    }

    /// Asks; and asks once more where the answer was lost or may be better now. The id makes that safe.
    async fn ask_quota(
        &self,
        call: &ModelCall,
        id: ReservationId,
        key: Option<usize>,
        context: &Bytes,
    ) -> Result<ReserveResponse, Unreserved> {
        // Limits across tenants count by these.
        let mut subject = call.caller.subject.clone();
        let mut limits = Vec::new();
        if let Some(own) = &call.own {
            own.mark(&mut subject);
            limits = own.limits();
        } else if let Some(key) = key {
            subject.labels.insert("provider".to_owned(), call.provider.label());
            subject.labels.insert(KEY_LABEL.to_owned(), call.provider.key_label(key).to_owned());
            limits = call.provider.key_limits(key).to_vec();
        }
        let request = || ReserveRequest {
            reservation_id: id.to_string(),
            subject: Some(subject.clone()),
            amounts: call.amounts(),
            lease: prost_types::Duration::try_from(self.reservations.options.lease).ok(),
            context: context.clone(),
            limits: limits.clone(),
        };
        let failure = match self.ask_once(request()).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        let lost = may_have_reserved(&failure);
        let again = match failure.reason() {
            // What this organisation's ended calls did not use comes back as soon as they are settled.
            ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted => {
                self.settler.settle_now(call.caller.organization).await
            }
            _ => lost,
        };
        if !again {
            return Err(Unreserved { failure, unclear: lost });
        }
        let answer = self.ask_once(request()).await;
        answer.map_err(|failure| Unreserved { unclear: lost || may_have_reserved(&failure), failure })
    }

    async fn ask_once(&self, request: ReserveRequest) -> Result<ReserveResponse, Failure> {
        let mut request = tonic::Request::new(request);
        request.set_timeout(self.reservations.options.deadline);
        let answer = self.reservations.quota.clone().reserve(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure::from(&status))
    }
}

/// Whether a failed Reserve may have been carried out all the same: its answer was lost or late.
fn may_have_reserved(failure: &Failure) -> bool {
    matches!(failure.reason(), ErrorReason::Unavailable | ErrorReason::DeadlineExceeded)
}

impl Held {
    /// Whether limits of the provider, or of its key, have been asked: that it is held then says that there is room.
    pub(crate) fn is_within_providers_limits(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit.scope.as_str(), "provider" | KEY_LABEL))
    }

    /// The request and token limits that are closest to refusing.
    pub(crate) fn rate_limits(&self) -> Vec<RateLimit> {
        [("requests", unit::REQUEST), ("tokens", unit::TOKEN)]
            .into_iter()
            .filter_map(|(kind, unit)| {
                let of_unit = self.limits.iter().filter(|limit| limit.unit == unit);
                let closest = of_unit.min_by_key(|limit| limit.cap.saturating_sub(limit.used))?;
                Some(RateLimit {
                    kind: kind.to_owned(),
                    limit: closest.cap,
                    remaining: closest.cap.saturating_sub(closest.used).max(0),
                    reset_after: closest.reset_after,
                })
            })
            .collect()
    }
}
