//! The fast store: counters, held reservations and leases of every tenant, each operation one atomic step.
//!
//! Which one it is does not show: every method means the same on each of them.

mod admission;
mod generation;
mod install;
mod leases;
mod settlement;
mod shared;
mod tenants;

use std::time::Duration;

use weir_redis::Error as RedisError;
use weir_types::{OrganizationId, ReservationId};

use super::{memory, redis};
use crate::domain::{Demand, LimitId, Millis, Value};

pub use admission::{Admission, Grow, Reading, Record, Reserve};
pub use generation::{Generation, InForce};
pub use install::{InstallEntry, InstallSubject};
pub use leases::{Announce, AnnounceCounter, Announced, Expired, Extended, Holder, Holders};
pub use settlement::{Applied, Apply, ApplyCounter, ApplyKind, Ending};
pub use shared::{AccountContents, InstallAccount};
pub use tenants::{Contents, LeaseCount, List, Tenant};

/// The fast store; clones share it.
#[derive(Debug, Clone)]
pub enum Store {
    /// For any number of processes.
    Redis(redis::Store),
    /// For exactly one.
    Memory(memory::Store),
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The store is not in this generation: it is another one, or was restarted. Nothing has happened; the generation must be
    /// verified before anything is asked again.
    #[error("the store is not in this generation")]
    OtherGeneration,
    /// Too many calls wait for the store. Nothing has happened.
    #[error("too many calls wait for the store")]
    Busy,
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The counters in memory are closed: Postgres has not said for too long that they are this process's.
    #[error("the counters in memory are closed until Postgres says whose they are")]
    Closed,
    /// The counters in memory are another process's.
    #[error("another process keeps the counters in memory")]
    Owned,
    /// The counters in memory may not take more room.
    #[error("the counters in memory have no room for more")]
    Full,
}

impl From<weir_redis::Redis> for Store {
    fn from(redis: weir_redis::Redis) -> Self {
        Self::Redis(redis::Store::new(redis))
    }
}

impl From<memory::Store> for Store {
    fn from(store: memory::Store) -> Self {
        Self::Memory(store)
    }
}

impl Failure {
    /// Whether the store may have been away, rather than have refused.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Redis(RedisError::Unavailable | RedisError::Timeout) | Self::Closed | Self::Owned)
    }
}

impl Store {
    /// Whether it answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn ping(&self) -> Result<()> {
        match self {
            Self::Redis(store) => store.ping().await,
            Self::Memory(store) => store.ping(),
        }
    }

    /// The store's identity, and the generation that is in force on it, if there is one.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn generation(&self) -> Result<(String, Option<Generation>)> {
        match self {
            Self::Redis(store) => store.generation().await,
            // Rare and large: not a part of every caller's future.
            Self::Memory(store) => Box::pin(store.generation()).await,
        }
    }

    /// Begins a generation on this store, unless another process has; answers the one in force.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn begin_generation(&self, server: &str, number: u64, rebuilds: bool) -> Result<Generation> {
        match self {
            Self::Redis(store) => store.begin_generation(server, number, rebuilds).await,
            Self::Memory(store) => Box::pin(store.begin_generation(number, rebuilds)).await,
        }
    }

    /// Makes a generation usable.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn adopt(&self, number: u64) -> Result<InForce> {
        match self {
            Self::Redis(store) => {
                let scripts = redis::Scripts::new(number);
                store.load(&scripts).await?;
                Ok(InForce::with_scripts(scripts))
            }
            Self::Memory(_) => Ok(InForce::without_scripts(number)),
        }
    }

    /// Makes a generation usable again that the store has forgotten although it lost nothing.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn reload(&self, generation: &InForce) -> Result<()> {
        match self {
            Self::Redis(store) => store.load(generation.scripts()?).await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// What is wrong with the store's configuration or version, in words.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        match self {
            Self::Redis(store) => store.complaints().await,
            Self::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Reserves against all limits at once, or writes nothing.
    ///
    /// # Errors
    /// When the store did not answer; it may have reserved nevertheless.
    pub async fn reserve(&self, generation: &InForce, reserve: &Reserve<'_>) -> Result<Admission> {
        match self {
            Self::Redis(store) => store.reserve(generation.scripts()?, reserve).await,
            Self::Memory(store) => store.reserve(generation.number(), reserve),
        }
    }

    /// Lets a reservation hold more, or changes nothing. What a refusal reads is without what the reservation itself holds.
    ///
    /// # Errors
    /// When the store did not answer; it may have grown nevertheless.
    pub async fn grow(&self, generation: &InForce, grow: &Grow<'_>) -> Result<Admission> {
        match self {
            Self::Redis(store) => store.grow(generation.scripts()?, grow).await,
            Self::Memory(store) => store.grow(generation.number(), grow),
        }
    }

    /// Reads what a demand would touch. Which periods it has does not matter.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn read(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        demand: &Demand<'_>,
    ) -> Result<Reading> {
        match self {
            Self::Redis(store) => store.read(generation.scripts()?, organization, demand).await,
            Self::Memory(store) => store.read(generation.number(), organization, demand),
        }
    }

    /// The fence of a tenant: it stands until the store is emptied. Take it before reading what will be installed.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn fence(&self, organization: &OrganizationId) -> Result<Vec<u8>> {
        match self {
            Self::Redis(store) => store.fence(organization).await,
            Self::Memory(store) => store.fence(organization),
        }
    }

    /// Puts counters in place; false if the fence is gone.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn install(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        fence: &[u8],
        subjects: &[InstallSubject],
    ) -> Result<bool> {
        match self {
            Self::Redis(store) => store.install(generation.scripts()?, organization, fence, subjects).await,
            Self::Memory(store) => store.install(generation.number(), organization, fence, subjects),
        }
    }

    /// Lengthens a lease.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn extend(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        id: &ReservationId,
        concurrent: &[(LimitId, Value)],
        lease: Duration,
    ) -> Result<Extended> {
        match self {
            Self::Redis(store) => store.extend(generation.scripts()?, organization, id, concurrent, lease).await,
            Self::Memory(store) => store.extend(generation.number(), organization, id, lease),
        }
    }

    /// Counts a reservation again.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn announce(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        announce: &Announce,
    ) -> Result<Announced> {
        match self {
            Self::Redis(store) => store.announce(generation.scripts()?, organization, announce).await,
            Self::Memory(store) => store.announce(generation.number(), organization, announce),
        }
    }

    /// Leases expired reservations of a tenant to the caller.
    ///
    /// # Errors
    /// When the store did not answer; then those that it had leased expire again.
    pub async fn take_over(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Expired>> {
        match self {
            Self::Redis(store) => store.take_over(generation.scripts()?, organization, most, lease).await,
            Self::Memory(store) => store.take_over(generation.number(), organization, most, lease),
        }
    }

    /// A held reservation.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn find(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Record>> {
        match self {
            Self::Redis(store) => store.find(organization, id).await,
            Self::Memory(store) => store.find(organization, id),
        }
    }

    /// The reservations of a tenant that are not settled, those whose lease ends first before the others.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holders(&self, organization: &OrganizationId, most: usize) -> Result<Holders> {
        match self {
            Self::Redis(store) => store.holders(organization, most).await,
            Self::Memory(store) => store.holders(organization, most),
        }
    }

    /// A reservation that is not settled.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holder(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Holder>> {
        match self {
            Self::Redis(store) => store.holder(organization, id).await,
            Self::Memory(store) => store.holder(organization, id),
        }
    }

    /// Some of a tenant's held reservations of other generations, each with the end of its lease, and the cursor for the next;
    /// from cursor 0 to cursor 0 all that are there throughout.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn kept(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        cursor: u64,
    ) -> Result<(u64, Vec<(Expired, Millis)>)> {
        match self {
            Self::Redis(store) => store.kept(generation.number(), organization, cursor).await,
            // What it holds ends with it.
            Self::Memory(_) => Ok((0, Vec::new())),
        }
    }

    /// What time it is where a tenant's counters are, if the store is in this generation.
    ///
    /// # Errors
    /// [`Failure::OtherGeneration`] if it is not; or when it did not answer.
    pub async fn now(&self, generation: &InForce, organization: &OrganizationId) -> Result<Millis> {
        Ok(self.read(generation, organization, &Demand { at: 0, parts: Vec::new() }).await?.at)
    }

    /// Applies settlements of one tenant; at most a few hundred at once. Answers for each what it found.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn settle(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        settles: &[Apply],
    ) -> Result<Vec<Applied>> {
        match self {
            Self::Redis(store) => store.settle(generation.scripts()?, organization, settles).await,
            Self::Memory(store) => store.settle(generation.number(), organization, settles),
        }
    }

    /// Notes that tenants may have leases, and anything, from now on.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn register(&self, organizations: &[OrganizationId]) -> Result<()> {
        match self {
            Self::Redis(store) => store.register(organizations).await,
            Self::Memory(store) => store.register(organizations),
        }
    }

    /// A page of the tenants that may have leases.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn tenants(&self, skip: usize, most: usize) -> Result<Vec<Tenant>> {
        self.listed(List::Leases, skip, most).await
    }

    /// A page of a list.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn listed(&self, list: List, skip: usize, most: usize) -> Result<Vec<Tenant>> {
        match self {
            Self::Redis(store) => store.listed(list, skip, most).await,
            Self::Memory(store) => store.listed(list, skip, most),
        }
    }

    /// How many leases each of these may have.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn lease_counts(&self, tenants: &[Tenant]) -> Result<Vec<LeaseCount>> {
        match self {
            Self::Redis(store) => store.lease_counts(tenants).await,
            Self::Memory(store) => store.lease_counts(tenants),
        }
    }

    /// Takes a tenant off a list, unless it was registered again meanwhile.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn forget(&self, tenant: &Tenant, list: List) -> Result<()> {
        match self {
            Self::Redis(store) => store.forget(tenant, list).await,
            Self::Memory(store) => store.forget(tenant, list),
        }
    }

    /// Removes what can't matter any more from a part of a tenant's state; answers the next cursor (`0` at the end) and how many
    /// fields are left.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn sweep(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        match self {
            Self::Redis(store) => store.sweep(generation.scripts()?, organization, cursor, keep_marks).await,
            Self::Memory(store) => store.sweep(generation.number(), organization, cursor, keep_marks),
        }
    }

    /// All that a tenant has. Small states are read in one step, so that what is read fits together.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn contents(&self, organization: &OrganizationId) -> Result<Contents> {
        match self {
            Self::Redis(store) => store.contents(organization).await,
            Self::Memory(store) => store.contents(organization),
        }
    }
}
