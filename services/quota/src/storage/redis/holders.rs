//! Who holds what now.

use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use super::leases::Held;
use super::{Keys, Result, Store, reservation_field};
use crate::storage::store::{Holder, Holders};

/// What is looked at in one step, of what may each be a batch of reservations.
const PAGE: usize = 256;
const AT_ONCE: usize = 16;

impl Store {
    /// The reservations of a tenant that are not settled, those whose lease ends first before the others.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holders(&self, organization: &OrganizationId, most: usize) -> Result<Holders> {
        let leases = Keys::new(organization).leases();
        let mut held: Vec<Held> = Vec::new();
        let (mut read, mut all_read) = (0, false);
        while !all_read && read <= 2 * most {
            let mut range = cmd("ZRANGE");
            range.arg(&leases).arg(read).arg(read + PAGE - 1).arg("WITHSCORES");
            let members: Vec<(Vec<u8>, i64)> = self.redis.command(&range).await?;
            for some in members.chunks(AT_ONCE) {
                let names: Vec<&[u8]> = some.iter().map(|(member, _)| member.as_slice()).collect();
                held.extend(self.records(organization, &names).await?);
            }
            (read, all_read) = (read + members.len(), members.len() < PAGE);
            // A lease ends when its member says, or later: of what is not read yet none ends before.
            let until = members.last().map_or(0, |(_, score)| *score);
            if held.iter().filter(|(_, ends, _)| *ends <= until).count() > most {
                break;
            }
        }
        held.sort_unstable_by_key(|(id, ends, _)| (*ends, *id));
        held.dedup_by_key(|(id, ..)| *id);
        let all = if all_read { held.len() } else { held.len().max(most.saturating_add(1)) };
        held.truncate(most);
        let now = self.time().await?;
        let list = held.into_iter().map(|(id, ends, record)| Holder { id, record, lease_left: ends - now });
        Ok(Holders { list: list.collect(), all: i64::try_from(all).unwrap_or(i64::MAX) })
    }

    /// A reservation that is not settled.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holder(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Holder>> {
        let held = self.records(organization, &[&reservation_field(id)]).await?;
        let now = self.time().await?;
        Ok(held.into_iter().next().map(|(id, ends, record)| Holder { id, record, lease_left: ends - now }))
    }

    /// The store's clock.
    async fn time(&self) -> Result<i64> {
        let (seconds, micros): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }
}
