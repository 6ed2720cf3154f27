//! Extend: longer leases, and counting again what the fast store has lost.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use super::epochs::Epoch;
use super::reserve::ATTEMPTS;
use crate::domain::{Amounts, Demand, Handle, InvalidHandle, LimitId, Plan, Subject, Value};
use crate::error::{Error, Result};
use crate::storage::settlements;
use crate::storage::store::{Announce, AnnounceCounter, Announced, Extended, Failure, Record};

/// A lease to lengthen.
#[derive(Debug)]
pub struct Extension {
    /// Which reservation.
    pub id: ReservationId,
    /// From Reserve.
    pub handle: Bytes,
    /// From now.
    pub lease: Duration,
    /// As in Reserve.
    pub context: Bytes,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It lives on.
    Extended,
    /// It counts again.
    Announced,
    /// It is settled already.
    Settled,
}

impl Quota {
    /// Lengthens leases; answers in their order, with the generation that they now count in.
    ///
    /// # Errors
    /// If one could not be lengthened; the others may have been. Doing it again is safe.
    pub async fn extend(&self, extensions: Vec<Extension>) -> Result<(Vec<LeaseOutcome>, u64)> {
        let outcomes = join_all(extensions.iter().map(|extension| self.extend_one(extension))).await;
        let outcomes: Result<Vec<_>> = outcomes.into_iter().collect();
        let outcomes = outcomes?;
        Ok((outcomes, self.epochs.current().await?.number()))
    }

    async fn extend_one(&self, extension: &Extension) -> Result<LeaseOutcome> {
        let _place = self.gate.go_on()?;
        let handle = Handle::decode(&extension.handle)?;
        if handle.reservation != extension.id {
            return Err(InvalidHandle.into());
        }
        let concurrent = handle.places();
        let id = handle.organization;
        for _ in 0..ATTEMPTS {
            let epoch = self.epochs.current().await?;
            match self.store.extend(&epoch.store, &id, &extension.id, &concurrent, extension.lease).await {
                Ok(Extended::Extended) => {
                    self.shared.extend(&handle, extension.lease).await?;
                    return Ok(LeaseOutcome::Extended);
                }
                Ok(Extended::Settled) => return Ok(LeaseOutcome::Settled),
                Err(Failure::OtherGeneration) => drop(Box::pin(self.epochs.reload()).await?),
                Err(failure) => return Err(failure.into()),
                Ok(Extended::Unknown) => {
                    // It may be this process that does not know the store's generation yet.
                    if self.epochs.verify().await?.number() == epoch.number()
                        && let Some(outcome) = Box::pin(self.announce(&epoch, extension, &handle, &concurrent)).await?
                    {
                        return Ok(outcome);
                    }
                }
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// Counts it again, unless it is settled; none if that must be tried again.
    pub(super) async fn announce(
        &self,
        epoch: &Epoch,
        extension: &Extension,
        handle: &Handle,
        concurrent: &[(LimitId, Value)],
    ) -> Result<Option<LeaseOutcome>> {
        let id = handle.organization;
        if self.is_settled(&id, extension.id).await? {
            return Ok(Some(LeaseOutcome::Settled));
        }
        self.announce_unsettled(epoch, extension, handle, concurrent).await
    }

    /// Counts again what Postgres does not know to be settled; none if that must be tried again.
    pub(super) async fn announce_unsettled(
        &self,
        epoch: &Epoch,
        extension: &Extension,
        handle: &Handle,
        concurrent: &[(LimitId, Value)],
    ) -> Result<Option<LeaseOutcome>> {
        let id = handle.organization;
        let organization = self.entitlements.organization(&id);
        let plan = self.entitlements.plan(&id, &organization).await?;
        self.register(&id, &organization, epoch).await?;
        let mut announce = self.announcement(epoch, extension, handle, concurrent).await?;
        // First what is shared: if this process dies in between it is announced again, which changes nothing.
        self.shared.announce(handle, extension.lease).await?;
        for _ in 0..2 {
            match self.store.announce(&epoch.store, &id, &announce).await {
                Ok(Announced::Announced) => {
                    ::metrics::counter!("weir_quota_announced_total").increment(1);
                    return Ok(Some(LeaseOutcome::Announced));
                }
                Ok(Announced::Extended) => return Ok(Some(LeaseOutcome::Extended)),
                Ok(Announced::Settled) => {
                    self.shared.withdraw_announced(handle).await?;
                    return Ok(Some(LeaseOutcome::Settled));
                }
                Ok(Announced::Cold) => {
                    self.warm_for(&id, epoch, &plan, handle).await?;
                    announce.loaded = true;
                }
                Err(Failure::OtherGeneration) => break,
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(None)
    }

    /// Whether Postgres knows how a reservation ended.
    async fn is_settled(&self, organization: &OrganizationId, id: ReservationId) -> Result<bool> {
        self.database
            .bounded(async {
                let mut transaction = self.database.begin_tenant(*organization).await?;
                let settled = settlements::which(&mut transaction, organization, &[id]).await?;
                transaction.commit().await.map_err(weir_database::Error::from)?;
                Ok(!settled.is_empty())
            })
            .await
    }

    /// Loads the counters that a reservation is held in, by the plan of today.
    async fn warm_for(&self, id: &OrganizationId, epoch: &Epoch, plan: &Plan, handle: &Handle) -> Result<()> {
        let subject = Subject { organization: *id, values: handle.values[1..].to_vec() };
        self.warm(id, epoch, &Demand::nothing(plan, &subject, self.now())).await
    }

    async fn announcement(
        &self,
        epoch: &Epoch,
        extension: &Extension,
        handle: &Handle,
        concurrent: &[(LimitId, Value)],
    ) -> Result<Announce> {
        let ids: Vec<LimitId> = handle.counters.iter().map(|counter| counter.limit).collect();
        let keys = self.dictionary.keys(&ids).await?;
        let counters = handle.counters.iter().zip(&keys).map(|(counter, key)| AnnounceCounter {
            value: handle.values[counter.value].clone(),
            limit: counter.limit,
            place: counter.place(key.kind, handle.reserved_at),
            amount: counter.amount,
            rolling: match key.kind {
                crate::domain::Kind::Rolling(length) => Some(length),
                _ => None,
            },
            durable: key.is_durable(),
        });
        Ok(Announce {
            id: extension.id,
            record: Record::of(&extension.handle, handle.reserved_at, epoch.number(), &extension.context)?,
            lease: extension.lease,
            counters: counters.collect(),
            concurrent: concurrent.to_vec(),
            loaded: false,
        })
    }
}

impl Handle {
    /// What was reserved, for those who take it over.
    #[must_use]
    pub fn into_amounts(self) -> Amounts {
        self.amounts
    }
}
