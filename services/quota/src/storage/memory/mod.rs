//! The fast path of a single process: every tenant's counters, reservations and leases in memory.
//!
//! It means the same as the scripts of the Redis store, operation by operation. An operation locks one of many shards once and does
//! not wait for anything meanwhile; the time is read with the lock held, so that a tenant's operations and its times have one
//! order. What a process loses when it ends is loaded and announced again in its next generation, as after a loss of Redis.

mod accounts;
mod buckets;
mod concurrency;
mod gate;
mod grow;
mod holders;
mod index;
mod install;
mod leases;
mod listed;
mod ownership;
mod reserve;
mod settle;
mod shards;
mod slab;
mod subject;
mod sweep;
mod tenant;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_types::{Clock, OrganizationId, ReservationId};

use super::accounts::Accounts;
use super::store::{
    Admission, Announce, Announced, Applied, Apply, Contents, Expired, Extended, Failure, Generation, Grow,
    InstallSubject, LeaseCount, List, Reading, Record, Reserve, Result, Tenant as Listing,
};
use crate::domain::{Demand, Millis};
use gate::Gate;
use listed::Listed;
pub use ownership::Ownership;
use shards::Shards;
use sweep::Cursor;
use tenant::State;

/// The store; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    gate: Gate,
    ownership: Option<Ownership>,
    shards: Shards,
    listed: Listed,
    accounts: Accounts,
}

/// Slots of a tenant that are looked at with its lock held, about a tenth of a millisecond's work.
const STEP: u32 = 2_048;

impl Store {
    /// A store that begins empty and takes up to so many bytes. With an ownership, it is closed unless that is held; without one,
    /// whoever makes it sees to it that there is no other for the same books.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, most_bytes: usize, ownership: Option<Ownership>) -> Self {
        let gate = Gate::new(ownership.is_none());
        let (shards, listed, accounts) = (Shards::new(most_bytes), Listed::default(), Accounts::default());
        Self(Arc::new(Shared { clock, gate, ownership, shards, listed, accounts }))
    }

    /// Forgets everything, as a process that ends does: for tests of what comes then.
    pub fn lose(&self) {
        self.0.gate.lose();
        self.0.shards.clear();
        self.0.listed.clear();
        self.0.accounts.clear();
    }

    /// Begins a generation of a store without an ownership, with nothing to be rebuilt.
    pub fn begin_alone(&self, number: u64) {
        self.0.gate.begin(0, number, false, std::time::Instant::now());
    }

    fn now(&self) -> Millis {
        self.0.clock.now().timestamp_millis()
    }

    /// Whether it is open.
    ///
    /// # Errors
    /// When another process may own the books.
    pub fn ping(&self) -> Result<()> {
        self.0.gate.pass(None)
    }

    /// How many bytes counters, reservations and marks take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.shards.bytes()
    }

    /// How many subjects, reservations and marks of settled ones a tenant has.
    #[must_use]
    pub fn size(&self, organization: &OrganizationId) -> usize {
        let size = |tenant: &mut tenant::Tenant| tenant.subjects.len() + tenant.reservations.len();
        self.0.shards.known(organization, size).unwrap_or(0)
    }

    /// Makes sure that this process, and no other, keeps the books in memory; waits for one that is about to end.
    ///
    /// # Errors
    /// [`Failure::Owned`] when another process does.
    pub async fn claim(&self) -> Result<()> {
        if let Some(ownership) = &self.0.ownership
            && let Some((asked, good_for)) = ownership.claim().await?
        {
            self.0.gate.open(asked + good_for);
        }
        Ok(())
    }

    /// The store's identity, and its generation if it has one; asks whether the books are still this process's, and opens or closes
    /// the store accordingly.
    pub(super) async fn generation(&self) -> Result<(String, Option<Generation>)> {
        let Some(ownership) = &self.0.ownership else {
            return Ok(("memory".to_owned(), self.0.gate.generation()));
        };
        let asked = std::time::Instant::now();
        match ownership.verify(self.0.gate.number()).await {
            Ok(held) => {
                if held.continues {
                    self.0.gate.open(asked + held.good_for);
                }
                let generation = if held.continues { self.0.gate.generation() } else { None };
                Ok((ownership.identity().to_owned(), generation))
            }
            Err(failure) => {
                self.0.gate.close();
                Err(failure)
            }
        }
    }

    /// Begins a generation, if the books are still this process's.
    pub(super) async fn begin_generation(&self, number: u64, rebuilds: bool) -> Result<Generation> {
        let asked = std::time::Instant::now();
        // Of a store without an owner only the first generation is begun, or the first after a loss.
        let (last, good_for) = match &self.0.ownership {
            Some(ownership) => {
                let last = self.0.gate.number();
                let (is_first, good_for) = ownership.take(number).await?;
                (if is_first { last } else { u64::MAX }, good_for)
            }
            None => (0, Duration::ZERO),
        };
        Ok(self.0.gate.begin(last, number, rebuilds, asked + good_for))
    }

    /// Reserves against all limits at once, or writes nothing.
    ///
    /// # Errors
    /// When the store is closed, full, or in another generation.
    pub fn reserve(&self, generation: u64, reserve: &Reserve<'_>) -> Result<Admission> {
        self.0.gate.pass(Some(generation))?;
        if self.0.shards.is_full() {
            return Err(Failure::Full);
        }
        let admission =
            self.0.shards.with(&reserve.organization, |tenant| tenant.reserve(generation, reserve, self.now()));
        Ok(admission)
    }

    /// Reads what a demand would touch.
    pub(super) fn read(&self, generation: u64, organization: &OrganizationId, demand: &Demand<'_>) -> Result<Reading> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.shards.with(organization, |tenant| tenant.reading(demand, self.now())))
    }

    /// The fence of a tenant.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn fence(&self, organization: &OrganizationId) -> Result<Vec<u8>> {
        self.0.gate.pass(None)?;
        let fence = |tenant: &mut tenant::Tenant| *tenant.fence.get_or_insert_with(|| self.0.shards.next_fence());
        Ok(self.0.shards.with(organization, fence).to_le_bytes().to_vec())
    }

    /// Puts counters in place; false if the fence is gone.
    ///
    /// # Errors
    /// When the store is closed, full, or in another generation.
    pub fn install(
        &self,
        generation: u64,
        organization: &OrganizationId,
        fence: &[u8],
        subjects: &[InstallSubject],
    ) -> Result<bool> {
        self.0.gate.pass(Some(generation))?;
        if self.0.shards.is_full() {
            return Err(Failure::Full);
        }
        Ok(self.0.shards.with(organization, |tenant| {
            let stands = tenant.fence.is_some_and(|stands| stands.to_le_bytes() == fence);
            if stands {
                tenant.install(generation, subjects);
            }
            stands
        }))
    }

    /// Lets a reservation hold more, or changes nothing.
    pub(super) fn grow(&self, generation: u64, grow: &Grow<'_>) -> Result<Admission> {
        self.0.gate.pass(Some(generation))?;
        let tenant = &grow.whole.organization;
        Ok(self.0.shards.with(tenant, |tenant| tenant.grow(generation, grow, self.now())))
    }

    /// Lengthens a lease.
    pub(super) fn extend(
        &self,
        generation: u64,
        organization: &OrganizationId,
        id: &ReservationId,
        lease: Duration,
    ) -> Result<Extended> {
        self.0.gate.pass(Some(generation))?;
        let extend = |tenant: &mut tenant::Tenant| tenant.extend(generation, id, lease, self.now());
        Ok(self.0.shards.known(organization, extend).unwrap_or(Extended::Unknown))
    }

    /// Counts a reservation again.
    pub(super) fn announce(
        &self,
        generation: u64,
        organization: &OrganizationId,
        announce: &Announce,
    ) -> Result<Announced> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.shards.with(organization, |tenant| tenant.announce(generation, announce, self.now())))
    }

    /// Leases expired reservations of a tenant to the caller.
    pub(super) fn take_over(
        &self,
        generation: u64,
        organization: &OrganizationId,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Expired>> {
        self.0.gate.pass(Some(generation))?;
        let take_over = |tenant: &mut tenant::Tenant| tenant.take_over(most, lease, self.now());
        Ok(self.0.shards.known(organization, take_over).unwrap_or_default())
    }

    /// A held reservation.
    pub(super) fn find(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Record>> {
        self.0.gate.pass(None)?;
        let find = |tenant: &mut tenant::Tenant| match tenant.reservation(id) {
            Some(State::Held(held)) => Some(held.record()),
            _ => None,
        };
        Ok(self.0.shards.known(organization, find).flatten())
    }

    /// Applies settlements of one tenant; answers for each what it found.
    ///
    /// # Errors
    /// When the store is closed or in another generation.
    pub fn settle(&self, generation: u64, organization: &OrganizationId, settles: &[Apply]) -> Result<Vec<Applied>> {
        self.0.gate.pass(Some(generation))?;
        Ok(self.0.shards.with(organization, |tenant| tenant.settle(settles, self.now())))
    }

    /// Notes that tenants may have leases, and anything, from now on.
    pub(super) fn register(&self, organizations: &[OrganizationId]) -> Result<()> {
        self.0.gate.pass(None)?;
        self.0.listed.register(organizations, self.now().div_euclid(1_000));
        Ok(())
    }

    /// A page of a list.
    pub(super) fn listed(&self, list: List, skip: usize, most: usize) -> Result<Vec<Listing>> {
        self.0.gate.pass(None)?;
        Ok(self.0.listed.page(list, skip, most, self.now().div_euclid(1_000)))
    }

    /// How many leases each of these has.
    pub(super) fn lease_counts(&self, tenants: &[Listing]) -> Result<Vec<LeaseCount>> {
        self.0.gate.pass(None)?;
        let count = |tenant: &Listing| self.0.shards.known(&tenant.id, |tenant| tenant.lease_count(self.now()));
        Ok(tenants.iter().map(|tenant| count(tenant).unwrap_or(LeaseCount { all: 0, expired: 0 })).collect())
    }

    /// Takes a tenant off a list, unless it was registered again meanwhile.
    pub(super) fn forget(&self, tenant: &Listing, list: List) -> Result<()> {
        self.0.gate.pass(None)?;
        self.0.listed.forget(tenant, list);
        Ok(())
    }

    /// Removes what can't matter any more from a part of a tenant's state; answers the next cursor and how much is left.
    ///
    /// # Errors
    /// When the store is closed or in another generation.
    pub fn sweep(
        &self,
        generation: u64,
        organization: &OrganizationId,
        cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        self.0.gate.pass(Some(generation))?;
        let keep = i64::try_from(keep_marks.as_millis()).unwrap_or(i64::MAX);
        let swept =
            self.0.shards.sweep(organization, |tenant| tenant.sweep(Cursor::parse(cursor), STEP, keep, self.now()));
        let (cursor, left) = swept.unwrap_or((Cursor::End, 0));
        Ok((cursor.to_string(), left))
    }

    /// All that a tenant has. Small states are read in one step, so that what is read fits together.
    pub(super) fn contents(&self, organization: &OrganizationId) -> Result<Contents> {
        self.0.gate.pass(None)?;
        /// Above it the lock would be held for longer than a request should wait.
        const AT_ONCE: usize = 5_000;
        let (mut contents, mut cursor) = (Contents::default(), Cursor::START);
        while cursor != Cursor::End {
            let read = self.0.shards.known(organization, |tenant| {
                contents.expired = tenant.lease_count(self.now()).expired;
                if tenant.subjects.len() + tenant.reservations.len() > AT_ONCE {
                    cursor = tenant.read_on(cursor, STEP, &mut contents);
                    return;
                }
                while cursor != Cursor::End {
                    cursor = tenant.read_on(cursor, STEP, &mut contents);
                }
            });
            if read.is_none() {
                break;
            }
        }
        Ok(contents)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Store")
            .field("gate", &self.0.gate)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
