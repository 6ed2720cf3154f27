//! Take-over: expired reservations go to whoever settles them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use super::settle::Settle;
use crate::domain::{Amounts, Handle};
use crate::error::{Error, Result};
use crate::storage::settlements;
use crate::storage::store::{Expired, Failure, List};

/// A reservation that was taken over.
#[derive(Debug)]
pub struct TakenOver {
    /// Which.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// What settles it.
    pub handle: Bytes,
    /// As in Reserve.
    pub context: Bytes,
    /// What was reserved.
    pub amounts: Amounts,
}

/// Tenants that are looked at together.
const PAGE: usize = 256;
/// A tenant without leases is forgotten this long (seconds) after it last had a request: longer than any lease, and than the
/// time in which processes rely on having registered it.
pub(super) const FORGET_AFTER: i64 = 7_200;

impl Quota {
    /// Leases up to `most` expired reservations to the caller. No two callers get the same one before its new lease ends.
    ///
    /// # Errors
    /// When the store did not answer; what it had leased expires again.
    pub async fn take_over(&self, most: usize, lease: Duration) -> Result<Vec<TakenOver>> {
        let mut taken = Vec::new();
        let start = self.take_over_from.load(Ordering::Relaxed);
        // Once around, from where the last one ended.
        let (mut skip, mut wrapped) = (start, start == 0);
        loop {
            let tenants = self.store.tenants(skip, PAGE).await?;
            let counts = self.store.lease_counts(&tenants).await?;
            let mut forgotten = 0;
            for (tenant, count) in tenants.iter().zip(counts) {
                if count.expired > 0 {
                    if taken.len() == most {
                        self.take_over_from.store(skip, Ordering::Relaxed);
                        return Ok(taken);
                    }
                    let expired = self.take_over_of(&tenant.id, most - taken.len(), lease).await?;
                    let expired = self.without_released(&tenant.id, expired).await?;
                    taken.extend(expired.into_iter().filter_map(|expired| taken_over(&tenant.id, expired)));
                }
                if count.all == 0 && tenant.idle > FORGET_AFTER {
                    self.store.forget(tenant, List::Leases).await?;
                    forgotten += 1;
                }
            }
            let ended = tenants.len() < PAGE;
            // What was forgotten has made room for those behind it.
            skip = if ended { 0 } else { skip + tenants.len() - forgotten };
            if wrapped && (ended || (start > 0 && skip >= start)) {
                self.take_over_from.store(skip, Ordering::Relaxed);
                return Ok(taken);
            }
            wrapped |= ended;
        }
    }

    async fn take_over_of(&self, id: &OrganizationId, most: usize, lease: Duration) -> Result<Vec<Expired>> {
        let epoch = self.epochs.current().await?;
        match self.store.take_over(&epoch.store, id, most, lease).await {
            Err(Failure::OtherGeneration) => {
                let epoch = self.epochs.reload().await?;
                Ok(self.store.take_over(&epoch.store, id, most, lease).await?)
            }
            result => result.map_err(Error::from),
        }
    }
}

impl Quota {
    /// From now on it is whoever takes them over who says how they ended: a release that is still on its way is refused, because by
    /// then there may be a usage event. What was released before, and only the store does not know, is nobody's to charge: the
    /// release is carried through.
    async fn without_released(&self, id: &OrganizationId, mut expired: Vec<Expired>) -> Result<Vec<Expired>> {
        let known: Vec<(ReservationId, Vec<u8>)> =
            expired.iter().map(|expired| (expired.id, expired.record.handle().to_vec())).collect();
        let released = self.database.bounded(settlements::take_over(self.database.pool(), id, &known)).await?;
        if released.is_empty() {
            return Ok(expired);
        }
        let again = expired.extract_if(.., |expired| released.contains(&expired.id)).map(|expired| Settle {
            id: expired.id,
            organization: *id,
            handle: expired.record.handle(),
            actuals: None,
        });
        let again: Vec<Settle> = again.collect();
        for error in Box::pin(self.settle(again)).await.into_iter().filter_map(Result::err) {
            // It expires again.
            tracing::warn!(%error, "a release could not be carried through");
        }
        Ok(expired)
    }
}

fn taken_over(organization: &OrganizationId, expired: Expired) -> Option<TakenOver> {
    let handle = expired.record.handle();
    let amounts = match Handle::decode(&handle) {
        Ok(handle) => handle.into_amounts(),
        Err(error) => {
            tracing::error!(reservation = %expired.id, %error, "an expired reservation can't be read");
            return None;
        }
    };
    let context = expired.record.context.into();
    Some(TakenOver { id: expired.id, organization: *organization, handle, context, amounts })
}
