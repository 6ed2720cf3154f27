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

use super::redis;
use crate::domain::{Demand, LimitId, Value};

pub use admission::{Admission, Reading, Record, Reserve};
pub use generation::{Generation, InForce};
pub use install::{InstallEntry, InstallSubject};
pub use leases::{Announce, AnnounceCounter, Announced, Expired, Extended};
pub use settlement::{Apply, ApplyCounter, ApplyKind, Ending};
pub use shared::{AccountContents, InstallAccount};
pub use tenants::{Contents, LeaseCount, List, Tenant};

/// The fast store; clones share it.
#[derive(Debug, Clone)]
pub enum Store {
    /// For any number of processes.
    Redis(redis::Store),
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
}

impl Failure {
    /// Whether the store may have been away, rather than have refused.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Redis(RedisError::Unavailable | RedisError::Timeout))
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
        }
    }

    /// The store's identity, and the generation that is in force on it, if there is one.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn generation(&self) -> Result<(String, Option<Generation>)> {
        match self {
            Self::Redis(store) => store.generation().await,
        }
    }

    /// Begins a generation on this store, unless another process has; answers the one in force.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn begin_generation(&self, server: &str, number: u64, rebuilds: bool) -> Result<Generation> {
        match self {
            Self::Redis(store) => store.begin_generation(server, number, rebuilds).await,
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
        }
    }

    /// Makes a generation usable again that the store has forgotten although it lost nothing.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn reload(&self, generation: &InForce) -> Result<()> {
        match self {
            Self::Redis(store) => store.load(generation.scripts()).await,
        }
    }

    /// What is wrong with the store's configuration or version, in words.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        match self {
            Self::Redis(store) => store.complaints().await,
        }
    }

    /// Reserves against all limits at once, or writes nothing.
    ///
    /// # Errors
    /// When the store did not answer; it may have reserved nevertheless.
    pub async fn reserve(&self, generation: &InForce, reserve: &Reserve<'_>) -> Result<Admission> {
        match self {
            Self::Redis(store) => store.reserve(generation.scripts(), reserve).await,
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
            Self::Redis(store) => store.read(generation.scripts(), organization, demand).await,
        }
    }

    /// The fence of a tenant: it stands until the store is emptied. Take it before reading what will be installed.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn fence(&self, organization: &OrganizationId) -> Result<Vec<u8>> {
        match self {
            Self::Redis(store) => store.fence(organization).await,
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
            Self::Redis(store) => store.install(generation.scripts(), organization, fence, subjects).await,
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
            Self::Redis(store) => store.extend(generation.scripts(), organization, id, concurrent, lease).await,
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
            Self::Redis(store) => store.announce(generation.scripts(), organization, announce).await,
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
            Self::Redis(store) => store.take_over(generation.scripts(), organization, most, lease).await,
        }
    }

    /// A held reservation.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn find(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Record>> {
        match self {
            Self::Redis(store) => store.find(organization, id).await,
        }
    }

    /// Applies settlements of one tenant; at most a few hundred at once. Answers for each whether its lease had ended.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn settle(
        &self,
        generation: &InForce,
        organization: &OrganizationId,
        settles: &[Apply],
    ) -> Result<Vec<bool>> {
        match self {
            Self::Redis(store) => store.settle(generation.scripts(), organization, settles).await,
        }
    }

    /// Notes that tenants may have leases, and anything, from now on.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn register(&self, organizations: &[OrganizationId], now_seconds: i64) -> Result<()> {
        match self {
            Self::Redis(store) => store.register(organizations, now_seconds).await,
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
        }
    }

    /// How many leases each of these has.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn lease_counts(&self, tenants: &[Tenant]) -> Result<Vec<LeaseCount>> {
        match self {
            Self::Redis(store) => store.lease_counts(tenants).await,
        }
    }

    /// Takes a tenant off a list, unless it was registered again meanwhile.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn forget(&self, tenant: &Tenant, list: List) -> Result<()> {
        match self {
            Self::Redis(store) => store.forget(tenant, list).await,
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
            Self::Redis(store) => store.sweep(generation.scripts(), organization, cursor, keep_marks).await,
        }
    }

    /// All that a tenant has. Small states are read in one step, so that what is read fits together.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn contents(&self, organization: &OrganizationId) -> Result<Contents> {
        match self {
            Self::Redis(store) => store.contents(organization).await,
        }
    }
}
