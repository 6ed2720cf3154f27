//! Which tenants may have leases, and anything.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use weir_types::OrganizationId;

use crate::storage::store::{List, Tenant};

/// Both lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    leases: Mutex<BTreeMap<OrganizationId, i64>>,
    states: Mutex<BTreeMap<OrganizationId, i64>>,
}

impl Listed {
    const fn list(&self, list: List) -> &Mutex<BTreeMap<OrganizationId, i64>> {
        match list {
            List::Leases => &self.leases,
            List::States => &self.states,
        }
    }

    pub(super) fn register(&self, organizations: &[OrganizationId], now_seconds: i64) {
        for list in [List::Leases, List::States] {
            self.list(list).lock().extend(organizations.iter().map(|id| (*id, now_seconds)));
        }
    }

    pub(super) fn clear(&self) {
        self.leases.lock().clear();
        self.states.lock().clear();
    }

    pub(super) fn page(&self, list: List, skip: usize, most: usize, now_seconds: i64) -> Vec<Tenant> {
        let list = self.list(list).lock();
        let tenant = |(id, registered): (&OrganizationId, &i64)| Tenant {
            id: *id,
            registered: *registered,
            idle: now_seconds - registered,
        };
        list.iter().skip(skip).take(most).map(tenant).collect()
    }

    pub(super) fn forget(&self, tenant: &Tenant, list: List) {
        let mut list = self.list(list).lock();
        if list.get(&tenant.id) == Some(&tenant.registered) {
            list.remove(&tenant.id);
        }
    }
}
