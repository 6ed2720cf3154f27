//! Requests that come again within the second, byte by byte: known by one hash, and answered without being read anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use weir_proto::broker::v1::InvokeResponse;
use weir_types::OrganizationId;

use super::at_hand::AT_HAND;
use super::hits::Counted;
use super::{Hit, Stored};
use crate::app::call::ModelCall;
use crate::app::entitlements::Plan;
use crate::app::fleet::Offering;
use crate::app::{Broker, Parts};
use crate::domain::cache::{RequestHash, TenantPolicy};

/// Requests that are known at once.
const CAPACITY: usize = 20_000;

/// What led a request to its answer.
pub(super) struct Path {
    offering: Arc<Offering>,
    plan: Arc<Plan>,
    policy: TenantPolicy,
    hit: Hit,
    counted: Counted,
}

/// The paths of the last second.
#[derive(Default)]
pub(super) struct Paths {
    /// An answer was kept: before that no request needs to be known.
    in_use: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    since: Option<Instant>,
    paths: HashMap<RequestHash, Arc<Path>>,
}

impl Paths {
    fn get(&self, hash: &RequestHash) -> Option<Arc<Path>> {
        self.known.lock().paths.get(hash).map(Arc::clone)
    }

    /// All are forgotten together, so that none is older than its answer may be.
    fn put(&self, hash: RequestHash, path: Path) {
        let mut known = self.known.lock();
        if known.since.is_none_or(|since| since.elapsed() >= AT_HAND) || known.paths.len() >= CAPACITY {
            known.paths.clear();
            known.since = Some(Instant::now());
        }
        known.paths.insert(hash, Arc::new(path));
    }
}

impl Broker {
    /// Whether requests are to be known by their hash, because there may be answers for them.
    pub(crate) fn knows_requests(&self) -> bool {
        self.cache.paths.in_use.load(Ordering::Relaxed)
    }

    /// The answer at hand to a request that came a moment ago; none if anything has changed that led to it.
    pub(crate) fn again(&self, organization: OrganizationId, hash: &RequestHash, id: &str) -> Option<InvokeResponse> {
        let (path, stored) = self.at_hand(organization, hash)?;
        Some(self.given(&path.counted, &stored, id))
    }

    /// The same of a stream.
    pub(crate) fn again_stream(&self, organization: OrganizationId, hash: &RequestHash, id: &str) -> Option<Parts> {
        let (path, stored) = self.at_hand(organization, hash)?;
        Some(self.given_stream(&path.counted, &stored, id))
    }

    fn at_hand(&self, organization: OrganizationId, hash: &RequestHash) -> Option<(Arc<Path>, Arc<Stored>)> {
        let path = self.cache.paths.get(hash)?;
        // A load level, and keys of the caller's own, can lead elsewhere each time.
        let is_plain = self.load.level_name().is_none() && self.own_keys.has_none(organization);
        let is_same = is_plain
            && self.offering.load().as_ref().is_some_and(|offering| Arc::ptr_eq(offering, &path.offering))
            && self.entitlements.at_hand(organization).is_some_and(|plan| Arc::ptr_eq(&plan, &path.plan))
            && self.cache.policies.at_hand(organization) == Some(path.policy);
        let stored = self.cache.at_hand.get(&path.hit.name).filter(|_| is_same)?;
        if stored.age(self.clock.now()) >= path.hit.ttl {
            return None;
        }
        self.cache.metrics.hits.increment(1);
        Some((path, stored))
    }

    /// Notes what led a call to its answer, in case it comes again.
    pub(super) fn note(&self, known_by: Option<RequestHash>, call: &ModelCall, hit: Hit, counted: Counted) {
        let Some(hash) = known_by else { return self.cache.paths.in_use.store(true, Ordering::Relaxed) };
        let organization = call.caller.organization;
        let Some(policy) = self.cache.policies.at_hand(organization) else { return };
        if call.load_level().is_empty() && self.own_keys.has_none(organization) {
            let (offering, plan) = (Arc::clone(&call.offering), Arc::clone(&call.plan));
            self.cache.paths.put(hash, Path { offering, plan, policy, hit, counted });
        }
    }
}
