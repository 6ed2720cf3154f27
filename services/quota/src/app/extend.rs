//! Extend: longer leases, and counting again what the fast store has lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
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
#[derive(Debug, Clone)]
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

/// What the store says to a lengthening, and what is left to do.
enum Asked {
    Done(LeaseOutcome),
    /// It does not know the reservation in this generation.
    Unknown(Arc<Epoch>, Box<Handle>),
    /// It must be asked again.
    Again,
}

/// A reservation that the store does not know in a generation.
struct Lost {
    /// Its place among those that are lengthened.
    place: usize,
    epoch: Arc<Epoch>,
    handle: Box<Handle>,
}

impl Quota {
    /// Lengthens leases; answers in their order, with the generation that they now count in.
    ///
    /// # Errors
    /// If one could not be lengthened; the others may have been. Doing it again is safe.
    pub async fn extend(&self, extensions: Vec<Extension>) -> Result<(Vec<LeaseOutcome>, u64)> {
        let places: Result<Vec<_>> = extensions.iter().map(|_| self.gate.go_on()).collect();
        let _places = places?;
        let mut outcomes = vec![None; extensions.len()];
        for _ in 0..ATTEMPTS {
            self.extend_once(&extensions, &mut outcomes).await?;
            if outcomes.iter().all(Option::is_some) {
                return Ok((outcomes.into_iter().flatten().collect(), self.epochs.current().await?.number()));
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// Lengthens those that have no outcome yet. What the store has lost is looked up in Postgres tenant by tenant and not one by
    /// one: after a loss all that live come at once, and must be back before money is open again.
    async fn extend_once(&self, extensions: &[Extension], outcomes: &mut [Option<LeaseOutcome>]) -> Result<()> {
        let open: Vec<usize> = (0..extensions.len()).filter(|place| outcomes[*place].is_none()).collect();
        let asked = join_all(open.iter().map(|place| self.ask_to_extend(&extensions[*place]))).await;
        let mut lost: HashMap<OrganizationId, Vec<Lost>> = HashMap::new();
        for (place, asked) in open.into_iter().zip(asked) {
            match asked? {
                Asked::Done(outcome) => outcomes[place] = Some(outcome),
                Asked::Unknown(epoch, handle) => {
                    lost.entry(handle.organization).or_default().push(Lost { place, epoch, handle });
                }
                Asked::Again => {}
            }
        }
        for announced in join_all(lost.iter().map(|(id, lost)| self.announce_all(id, extensions, lost))).await {
            announced?.into_iter().for_each(|(place, outcome)| outcomes[place] = outcome);
        }
        Ok(())
    }

    async fn ask_to_extend(&self, extension: &Extension) -> Result<Asked> {
        let handle = Handle::decode(&extension.handle)?;
        if handle.reservation != extension.id {
            return Err(InvalidHandle.into());
        }
        let epoch = self.epochs.current().await?;
        let extended = self
            .store
            .extend(&epoch.store, &handle.organization, &extension.id, &handle.places(), extension.lease)
            .await;
        match extended {
            Ok(Extended::Extended) => {
                self.shared.extend(&handle, extension.lease).await?;
                Ok(Asked::Done(LeaseOutcome::Extended))
            }
            Ok(Extended::Settled) => Ok(Asked::Done(LeaseOutcome::Settled)),
            // It may be this process that does not know the store's generation yet.
            Ok(Extended::Unknown) if self.epochs.verify().await?.number() == epoch.number() => {
                Ok(Asked::Unknown(epoch, Box::new(handle)))
            }
            Ok(Extended::Unknown) => Ok(Asked::Again),
            Err(Failure::OtherGeneration) => {
                Box::pin(self.epochs.reload()).await?;
                Ok(Asked::Again)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Counts again what one tenant holds and the store has lost; no outcome where that must be tried again.
    async fn announce_all(
        &self,
        id: &OrganizationId,
        extensions: &[Extension],
        lost: &[Lost],
    ) -> Result<Vec<(usize, Option<LeaseOutcome>)>> {
        for Lost { epoch, .. } in lost {
            self.epochs.read_for(epoch).await?;
        }
        let ids: Vec<ReservationId> = lost.iter().map(|one| extensions[one.place].id).collect();
        let settled = self.settled_among(id, &ids).await?;
        let announced = lost.iter().map(async |Lost { place, epoch, handle }| {
            let extension = &extensions[*place];
            if settled.contains(&extension.id) {
                return Ok((*place, Some(LeaseOutcome::Settled)));
            }
            let outcome = self.announce_unsettled(epoch, extension, handle, &handle.places()).await?;
            Ok((*place, outcome))
        });
        join_all(announced).await.into_iter().collect()
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
        self.epochs.read_for(epoch).await?;
        if self.settled_among(&id, &[extension.id]).await?.contains(&extension.id) {
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
        let plan = self.with_held(plan, handle).await?;
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

    /// Of which of one tenant's reservations Postgres knows how they ended.
    pub(super) async fn settled_among(
        &self,
        organization: &OrganizationId,
        ids: &[ReservationId],
    ) -> Result<HashSet<ReservationId>> {
        let which = async {
            let mut transaction = self.database.begin_tenant(*organization).await?;
            let settled = settlements::which(&mut transaction, organization, ids).await?;
            transaction.commit().await?;
            Ok::<_, weir_database::Error>(settled.into_iter().collect())
        };
        Ok(self.database.bounded(which).await?)
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
