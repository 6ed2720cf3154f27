//! Who holds what now.

use weir_types::{OrganizationId, ReservationId};

use super::Store;
use super::tenant::{State, Tenant};
use crate::domain::Millis;
use crate::storage::store::{Holder, Holders, Result};

/// Records that are copied with the tenant's lock held.
const STEP: usize = 256;

impl Store {
    /// The reservations of a tenant that are not settled, those whose lease ends first before the others.
    pub(in crate::storage) fn holders(&self, organization: &OrganizationId, most: usize) -> Result<Holders> {
        self.0.gate.pass(None)?;
        let ids = |tenant: &mut Tenant| {
            let id = |(_, slot): &(Millis, u32)| tenant.reservations.get(*slot).map(|reservation| reservation.id);
            let ids: Vec<ReservationId> = tenant.leases.iter().take(most).filter_map(id).collect();
            (ids, tenant.leases.len())
        };
        let Some((ids, all)) = self.0.shards.known(organization, ids) else { return Ok(Holders::default()) };
        let mut list = Vec::with_capacity(ids.len());
        for ids in ids.chunks(STEP) {
            let read =
                |tenant: &mut Tenant| ids.iter().filter_map(|id| tenant.holder(id, self.now())).collect::<Vec<_>>();
            list.extend(self.0.shards.known(organization, read).unwrap_or_default());
        }
        Ok(Holders { list, all: i64::try_from(all).unwrap_or(i64::MAX) })
    }

    /// A reservation that is not settled.
    pub(in crate::storage) fn holder(
        &self,
        organization: &OrganizationId,
        id: &ReservationId,
    ) -> Result<Option<Holder>> {
        self.0.gate.pass(None)?;
        Ok(self.0.shards.known(organization, |tenant| tenant.holder(id, self.now())).flatten())
    }
}

impl Tenant {
    fn holder(&self, id: &ReservationId, now: Millis) -> Option<Holder> {
        match self.reservation(id)? {
            State::Held(held) => Some(Holder { id: *id, record: held.record(), lease_left: held.ends - now }),
            State::Settled(_) => None,
        }
    }
}
