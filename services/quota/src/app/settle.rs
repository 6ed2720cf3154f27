//! Commit and release: durable when answered, charged once.

use std::sync::Arc;

use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use super::settler::Item;
use super::shared::nobody;
use crate::domain::handle::HandleShared;
use crate::domain::{Amounts, CounterKey, Handle, Millis, Subject, Unit};
use crate::error::{Error, Result};
use crate::storage::settlements::{self, ByUnit, Charge, NewSettlement};

/// How a reservation ends.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Which.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// From Reserve; may be empty if the fast store still has it.
    pub handle: bytes::Bytes,
    /// What was used, and whether that is assumed; none to release it.
    pub actuals: Option<(Amounts, bool)>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the books say; empty when it was released.
    pub amounts: ByUnit,
    /// It had ended like that before; nothing was changed.
    pub duplicate: bool,
    /// Its lease had ended.
    pub late: bool,
}

/// What the counters of a handle count.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) own: Vec<Arc<CounterKey>>,
    /// Of limits across tenants.
    pub(super) shared: Vec<Arc<CounterKey>>,
}

/// Totals of past periods are kept for so long at least.
const GRACE: i64 = 3_600_000;

impl Quota {
    /// Settles many, each on its own; answers in their order.
    pub async fn settle(&self, settles: Vec<Settle>) -> Vec<Result<Outcome>> {
        let mut outcomes = self.settle_once(&settles).await;
        for (settle, outcome) in settles.into_iter().zip(&mut outcomes) {
            if matches!(outcome, Err(Error::HeldMeanwhile { .. } | Error::SettledOtherwise { .. })) {
                let first = std::mem::replace(outcome, Err(Error::Stopping));
                *outcome = Box::pin(self.settle_by_the_last_handle(settle, first)).await;
            }
        }
        outcomes
    }

    pub(super) async fn settle_once(&self, settles: &[Settle]) -> Vec<Result<Outcome>> {
        // One after the other: with a handle there is nothing to wait for. All are queued before the first is
        // awaited, so that they share batches.
        let epoch = match self.epochs.current().await {
            Ok(epoch) => epoch,
            Err(error) => return settles.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut uncounted = self.count_before_settling(&epoch, settles).await;
        let mut queued = Vec::with_capacity(settles.len());
        for settle in settles {
            let prepared = match uncounted.remove(&settle.id) {
                Some(error) => Err(error),
                None => self.prepare(settle, epoch.number()).await,
            };
            queued.push(prepared.and_then(|item| {
                let overrun = overrun(&item);
                Ok((self.settler.queue(item)?, overrun))
            }));
        }
        let mut outcomes = Vec::with_capacity(queued.len());
        for queued in queued {
            outcomes.push(match queued {
                Ok((answer, overrun)) => {
                    let outcome = answer.await.unwrap_or(Err(Error::Stopping));
                    if let (Ok(Outcome { duplicate: false, .. }), Some(subject)) = (&outcome, overrun) {
                        self.alerts.charged_more(subject);
                    }
                    outcome
                }
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    async fn prepare(&self, settle: &Settle, epoch: u64) -> Result<Item> {
        let bytes = match settle.handle.is_empty() {
            // Boxed, here and below: every settlement's future would be as large as what few come to.
            true => Box::pin(self.find_handle(settle)).await?,
            false => settle.handle.clone(),
        };
        let handle = if bytes.is_empty() { None } else { Some(Handle::decode(&bytes)?) };
        if let Some(handle) = &handle
            && (handle.reservation != settle.id || handle.organization != settle.organization)
        {
            return Err(crate::domain::InvalidHandle.into());
        }
        let keys = match &handle {
            Some(handle) => self.keys_of(handle).await?,
            None => Keys::default(),
        };
        let (amounts, estimated) = match &settle.actuals {
            Some((amounts, estimated)) => (by_unit(amounts), *estimated),
            None => (ByUnit::new(), false),
        };
        let settlement = NewSettlement {
            id: settle.id,
            organization: settle.organization,
            released: settle.actuals.is_none(),
            estimated,
            amounts,
            charges: handle.as_ref().map_or_else(Vec::new, |handle| charges(handle, &keys)),
            handle: bytes.to_vec(),
        };
        Ok(Item { settlement, handle, keys, epoch })
    }

    /// What a handle's counters count.
    pub(super) async fn keys_of(&self, handle: &Handle) -> Result<Keys> {
        let own: Vec<_> = handle.counters.iter().map(|counter| counter.limit).collect();
        let shared: Vec<_> = handle.across().map(|(_, counter)| counter.account.limit).collect();
        let own = self.dictionary.keys(&own).await?;
        let shared = if shared.is_empty() { Vec::new() } else { self.dictionary.keys(&shared).await? };
        Ok(Keys { own, shared })
    }

    /// The handle that the fast store has. Without one a release still keeps a late Reserve from being admitted, and a repeated
    /// commit is still answered; a commit of something unknown is an error.
    async fn find_handle(&self, settle: &Settle) -> Result<bytes::Bytes> {
        if let Some(record) = self.store.find(&settle.organization, &settle.id).await? {
            return Ok(record.handle());
        }
        if settle.actuals.is_none() {
            return Ok(bytes::Bytes::new());
        }
        let find = async {
            let mut transaction = self.database.begin_tenant(settle.organization).await?;
            let settled = settlements::handle(&mut transaction, &settle.organization, &settle.id).await?;
            transaction.commit().await?;
            Ok::<_, weir_database::Error>(settled)
        };
        if let Some(handle) = self.database.bounded(find).await? {
            // An estimate that is replaced must change the same counters.
            return Ok(handle.into());
        }
        match self.epochs.current().await?.closed_for() {
            Some(left) => Err(Error::Rebuilding(left)),
            None => Err(Error::ReservationNotFound),
        }
    }
}

/// Whose counters grow by a settlement, because more is charged than was reserved.
fn overrun(item: &Item) -> Option<Subject> {
    let handle = item.handle.as_ref()?;
    let reserved = |unit: &str| handle.amounts.get(&Unit::parse(unit)).unwrap_or(0);
    let grows = item.settlement.amounts.iter().any(|(unit, amount)| *amount > reserved(unit));
    grows.then(|| Subject { organization: handle.organization, values: handle.values[1..].to_vec() })
}

/// The totals that a reservation's settlement adds to.
pub(super) fn charges(handle: &Handle, keys: &Keys) -> Vec<Charge> {
    let charge = |account, limit, subject, period: Millis, key: &CounterKey| Charge {
        account,
        limit,
        subject,
        period,
        unit: key.unit.to_string(),
        expires_at: key.kind.longest().map(|longest| period.saturating_add(longest).saturating_add(GRACE)),
    };
    let own = handle.counters.iter().zip(&keys.own).filter(|(_, key)| key.is_durable()).map(|(counter, key)| {
        let period = counter.place(key.kind, handle.reserved_at);
        charge(handle.organization, counter.limit, handle.values[counter.value].text(), period, key)
    });
    // All that was used counts where it last grew.
    let last = |part: &HandleShared, account| !handle.holds_later(part.growth, account);
    let across = handle
        .across()
        .zip(&keys.shared)
        .filter(|((part, counter), key)| key.is_durable() && last(part, &counter.account));
    let across = across.map(|((part, counter), key)| {
        let period = counter.place(key.kind, part.taken_at);
        charge(nobody(), counter.account.limit, counter.account.value.to_string(), period, key)
    });
    own.chain(across).collect()
}

fn by_unit(amounts: &Amounts) -> ByUnit {
    amounts.iter().map(|(unit, amount)| (unit.to_string(), amount)).collect()
}
