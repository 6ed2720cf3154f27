//! Who holds what now.

use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use super::{Keys, Result, Store, reservation_field, reservation_of};
use crate::storage::store::{Holder, Holders, Record};

impl Store {
    /// The reservations of a tenant that are not settled, those whose lease ends first before the others.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holders(&self, organization: &OrganizationId, most: usize) -> Result<Holders> {
        let keys = Keys::new(organization);
        let mut range = cmd("ZRANGE");
        range.arg(keys.leases()).arg(0).arg(most.saturating_sub(1)).arg("WITHSCORES");
        let leases: Vec<(Vec<u8>, i64)> = self.redis.command(&range).await?;
        if leases.is_empty() {
            return Ok(Holders::default());
        }
        let all: i64 = self.redis.command(cmd("ZCARD").arg(keys.leases())).await?;
        let mut get = cmd("HMGET");
        get.arg(keys.state());
        leases.iter().for_each(|(field, _)| {
            get.arg(field);
        });
        let records: Vec<Option<Vec<u8>>> = self.redis.command(&get).await?;
        let now = self.time().await?;
        // What was settled between the two has no record any more.
        let holder = |((field, ends), bytes): (&(Vec<u8>, i64), &Option<Vec<u8>>)| {
            let record = Record::decode(bytes.as_deref()?)?;
            Some(Holder { id: reservation_of(field)?, record, lease_left: ends - now })
        };
        let list: Vec<Holder> = leases.iter().zip(&records).filter_map(holder).collect();
        Ok(Holders { list, all })
    }

    /// A reservation that is not settled.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holder(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Holder>> {
        let Some(record) = self.find(organization, id).await? else { return Ok(None) };
        let mut score = cmd("ZSCORE");
        score.arg(Keys::new(organization).leases()).arg(&reservation_field(id));
        let ends: Option<i64> = self.redis.command(&score).await?;
        let now = self.time().await?;
        Ok(ends.map(|ends| Holder { id: *id, record, lease_left: ends - now }))
    }

    /// The store's clock.
    async fn time(&self) -> Result<i64> {
        let (seconds, micros): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }
}
