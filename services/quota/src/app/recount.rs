//! Counting again, without being asked, what is known to be held from before the present generation.
//!
//! Whoever holds a lease announces it again. This is for those who can't or are too late: a store that came back with its data has
//! the reservations of callers that died, or that never had an answer and repeat their request; and a settlement that comes before
//! the announcement would find nothing to settle against.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use super::entitlements::Organization;
use super::epochs::Epoch;
use super::extend::Extension;
use super::settle::Settle;
use crate::domain::{Handle, Kind, LimitId, Millis};
use crate::error::{Error, Result};
use crate::storage::store::{Apply, Ending, Expired};

/// Announced at once.
const AT_ONCE: usize = 32;
/// What is announced because it is about to be settled gets so long for it, should that fail.
const TO_SETTLE: Duration = Duration::from_secs(3600);

impl Quota {
    /// Counts what the store has kept of a tenant from former generations; once in each, before the first reservation.
    ///
    /// # Errors
    /// When a store did not answer. Doing it again is safe.
    pub(super) async fn recount(&self, id: &OrganizationId, organization: &Organization, epoch: &Epoch) -> Result<()> {
        if organization.recounted.load(Ordering::Acquire) == epoch.number() {
            return Ok(());
        }
        // No generation's number begins so: what stands for counters that are loaded is another key.
        let key = [b"recount".as_slice(), &epoch.number().to_le_bytes()].concat();
        self.warming.run((*id, key), self.recount_all(id, epoch)).await?;
        organization.recounted.store(epoch.number(), Ordering::Release);
        Ok(())
    }

    async fn recount_all(&self, id: &OrganizationId, epoch: &Epoch) -> Result<()> {
        let mut cursor = 0;
        loop {
            let (next, kept) = self.store.kept(&epoch.store, id, cursor).await?;
            if !kept.is_empty() {
                self.recount_some(id, epoch, kept).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn recount_some(&self, id: &OrganizationId, epoch: &Epoch, kept: Vec<(Expired, Millis)>) -> Result<()> {
        let ids: Vec<ReservationId> = kept.iter().map(|(held, _)| held.id).collect();
        self.epochs.read_for(epoch).await?;
        // A store keeps what it has written down, which may be older than what it had answered.
        let settled = self.settled_among(id, &ids).await?;
        let (ended, unsettled): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(held, _)| settled.contains(&held.id));
        let ended = ended.iter().map(|(held, _)| Apply {
            id: held.id,
            ending: Ending::Final,
            written_in: None,
            reserved_at: Some(held.record.reserved_at),
            counters: Vec::new(),
            concurrent: Handle::decode(&held.record.handle()).map_or_else(|_| Vec::new(), |handle| handle.places()),
        });
        let ended: Vec<Apply> = ended.collect();
        if !ended.is_empty() {
            self.store.settle(&epoch.store, id, &ended).await?;
        }
        let now = self.store.now(&epoch.store, id).await?;
        for some in unsettled.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|(held, ends)| self.recount_one(epoch, held, ends.saturating_sub(now))))
                .await?;
        }
        Ok(())
    }

    async fn recount_one(&self, epoch: &Epoch, held: &Expired, left: Millis) -> Result<()> {
        let bytes = held.record.handle();
        let Ok(handle) = Handle::decode(&bytes) else {
            tracing::error!(reservation = %held.id, "a kept reservation can't be read");
            return Ok(());
        };
        // A lease that has ended stays ended: it waits to be taken over.
        let left = u64::try_from(left).unwrap_or(0);
        let (lease, context) = (Duration::from_millis(left), held.record.context.clone().into());
        let extension = Extension { id: held.id, handle: bytes, lease, context };
        match self.announce_unsettled(epoch, &extension, &handle, &handle.places()).await? {
            Some(_) => Ok(()),
            None => Err(Error::Unsettled("the store changed while it was counted")),
        }
    }

    /// Counts again what is about to be settled and was reserved before the present generation, where a settlement must know what
    /// was held. Answers what could not be counted: to settle it anyway might count it twice, or not at all.
    pub(super) async fn count_before_settling(
        &self,
        epoch: &Epoch,
        settles: &[Settle],
    ) -> HashMap<ReservationId, Error> {
        let mut old = Vec::new();
        for settle in settles {
            if Handle::peek_reserved_at(&settle.handle).is_some_and(|reserved_at| epoch.may_follow(reserved_at)) {
                old.push(settle);
            }
        }
        let mut failed = HashMap::new();
        for some in old.chunks(AT_ONCE) {
            let counted = Box::pin(join_all(some.iter().map(|settle| self.count_one(epoch, settle)))).await;
            for (settle, counted) in some.iter().zip(counted) {
                if let Err(error) = counted {
                    failed.insert(settle.id, error);
                }
            }
        }
        failed
    }

    async fn count_one(&self, epoch: &Epoch, settle: &Settle) -> Result<()> {
        let handle = Handle::decode(&settle.handle)?;
        if handle.reservation != settle.id || handle.organization != settle.organization {
            return Err(crate::domain::InvalidHandle.into());
        }
        let across = handle.across().map(|(_, counter)| counter.account.limit);
        let ids: Vec<LimitId> = handle.counters.iter().map(|counter| counter.limit).chain(across).collect();
        let keys = self.dictionary.keys(&ids).await?;
        // Totals are set by their version, and what only the store knows is gone: neither needs it.
        if !keys.iter().any(|key| matches!(key.kind, Kind::Rolling(_)) && key.is_durable()) {
            return Ok(());
        }
        let known = self.store.find(&settle.organization, &settle.id).await?;
        if known.as_ref().is_some_and(|record| record.generation == epoch.number()) {
            return Ok(());
        }
        let context = known.map(|record| record.context.into()).unwrap_or_default();
        let extension = Extension { id: settle.id, handle: settle.handle.clone(), lease: TO_SETTLE, context };
        match Box::pin(self.announce(epoch, &extension, &handle, &handle.places())).await? {
            Some(_) => Ok(()),
            None => Err(Error::Unsettled("the store changed before it was settled")),
        }
    }
}
