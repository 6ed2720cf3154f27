//! Who has which tenant locked, and how much memory all of them take.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::Mutex;
use weir_types::OrganizationId;

use super::sweep::Cursor;
use super::tenant::Tenant;

/// Tenants by their id, in many maps with a lock each.
pub(super) struct Shards {
    hasher: DefaultHashBuilder,
    shards: Box<[Shard]>,
    next_fence: AtomicU64,
    bytes: AtomicIsize,
    most_bytes: isize,
}

/// On a cache line of its own, because its neighbours are locked at the same time.
#[repr(align(128))]
struct Shard(Mutex<Tenants>);

struct Tenants {
    by_id: HashMap<OrganizationId, Box<Tenant>>,
    /// Memory that was taken and is not in the sum yet.
    grown: isize,
}

const SHARDS: usize = 256;
/// What a tenant takes beside what it has.
const TENANT: isize = 1_024;
/// How much a shard's share of the sum may lag behind, so that requests of different tenants share nothing.
const LAG: isize = 16_384;

impl Shards {
    pub(super) fn new(most_bytes: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        let tenants = || Tenants { by_id: HashMap::with_hasher(hasher.clone()), grown: 0 };
        Self {
            shards: (0..SHARDS).map(|_| Shard(Mutex::new(tenants()))).collect(),
            hasher,
            next_fence: AtomicU64::new(1),
            bytes: AtomicIsize::new(0),
            most_bytes: isize::try_from(most_bytes).unwrap_or(isize::MAX),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.most_bytes
    }

    fn shard(&self, id: &OrganizationId) -> &Mutex<Tenants> {
        // The map uses the upper and the lowest bits.
        let place = (self.hasher.hash_one(id) >> 40) as usize % SHARDS;
        &self.shards[place].0
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut tenants = shard.0.lock();
            tenants.by_id.clear();
            tenants.grown = 0;
        }
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Does something with a tenant, which begins empty.
    pub(super) fn with<T>(&self, id: &OrganizationId, work: impl FnOnce(&mut Tenant) -> T) -> T {
        let mut shard = self.shard(id).lock();
        let Tenants { by_id, grown } = &mut *shard;
        let tenant = by_id.entry(*id).or_insert_with(|| {
            *grown += TENANT;
            Box::new(Tenant::new(self.hasher.clone()))
        });
        let result = work(tenant);
        *grown += std::mem::take(&mut tenant.grown);
        self.settle_accounts(grown);
        result
    }

    /// A fence that no tenant has had.
    pub(super) fn next_fence(&self) -> u64 {
        self.next_fence.fetch_add(1, Ordering::Relaxed)
    }

    /// Does something with a tenant that is there.
    pub(super) fn known<T>(&self, id: &OrganizationId, work: impl FnOnce(&mut Tenant) -> T) -> Option<T> {
        let mut shard = self.shard(id).lock();
        let Tenants { by_id, grown } = &mut *shard;
        let tenant = by_id.get_mut(id)?;
        let result = work(tenant);
        *grown += std::mem::take(&mut tenant.grown);
        self.settle_accounts(grown);
        Some(result)
    }

    /// Sweeps a part of a tenant; answers how much is left of it. When nothing is, the tenant goes, with its fence.
    pub(super) fn sweep(&self, id: &OrganizationId, work: impl FnOnce(&mut Tenant) -> Cursor) -> Option<(Cursor, u64)> {
        let mut shard = self.shard(id).lock();
        let Tenants { by_id, grown } = &mut *shard;
        let tenant = by_id.get_mut(id)?;
        let cursor = work(tenant);
        *grown += std::mem::take(&mut tenant.grown);
        let left = if tenant.is_empty() { 0 } else { tenant.subjects.len() + tenant.reservations.len() };
        if left == 0 {
            by_id.remove(id);
            *grown -= TENANT;
        }
        self.settle_accounts(grown);
        Some((if left == 0 { Cursor::End } else { cursor }, left as u64))
    }

    fn settle_accounts(&self, grown: &mut isize) {
        if grown.abs() > LAG {
            self.bytes.fetch_add(std::mem::take(grown), Ordering::Relaxed);
        }
    }
}
