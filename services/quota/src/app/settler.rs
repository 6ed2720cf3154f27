//! Settlements, written in batches: first to Postgres, then to the fast store, then answered.
//!
//! If the process dies, or the fast store is away, between the first two, the caller was not answered and asks again; Postgres then
//! says what it has, and the fast store is told again, which changes nothing that it knew.

mod telling;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::metrics::{counter, histogram};
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::{OrganizationId, ReservationId};

use super::epochs::Epochs;
use super::settle::{Keys, Outcome};
use super::shared::{self, Shared};
use crate::config::Settlements;
use crate::domain::Handle;
use crate::error::{Error, Result};
use crate::storage::counters::Total;
use crate::storage::endings;
use crate::storage::settlements::{self, NewSettlement, Settled};
use crate::storage::store::{Applied, Apply, Failure, Store};
use telling::{Totals, application, endings};

/// A settlement on its way.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) settlement: NewSettlement,
    pub(super) handle: Option<Handle>,
    pub(super) keys: Keys,
    /// The generation in which it is known to count, if it was reserved in any.
    pub(super) epoch: u64,
}

impl Item {
    /// Whether a counter of it is made of buckets that Postgres has, too.
    fn is_in_long_rolling_window(&self) -> bool {
        self.keys.own.iter().chain(&self.keys.shared).any(|key| key.kind.is_rolling() && key.is_durable())
    }
}

type Waiting = (Item, oneshot::Sender<Result<Outcome>>);

/// Where settlements are handed in.
#[derive(Debug)]
pub(super) struct Settler {
    queue: mpsc::Sender<Waiting>,
}

/// Writes them.
pub(super) struct Writer {
    queue: mpsc::Receiver<Waiting>,
    batch: usize,
    writers: usize,
    books: Books,
}

/// Where they are written.
#[derive(Clone)]
pub(super) struct Books {
    database: Database,
    store: Store,
    epochs: Arc<Epochs>,
    shared: Arc<Shared>,
}

pub(super) fn new(config: &Settlements, books: Books) -> (Settler, Writer) {
    let (sender, queue) = mpsc::channel(config.queue);
    (Settler { queue: sender }, Writer { queue, batch: config.batch, writers: config.writers, books })
}

impl Settler {
    /// Takes a settlement; answers when it is durable and the fast store knows it.
    pub(super) fn queue(&self, item: Item) -> Result<oneshot::Receiver<Result<Outcome>>> {
        let (sender, receiver) = oneshot::channel();
        self.queue.try_send((item, sender)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        Ok(receiver)
    }
}

impl Writer {
    /// Writes what is handed in; at the end what is left. While all writers are busy the next batch grows. A reservation is in
    /// one batch at a time, so that its settlements take effect in the order in which they came.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut writing = JoinSet::new();
        let mut under_way = HashSet::new();
        let mut open = true;
        loop {
            while waiting.len() < self.batch
                && let Ok(next) = self.queue.try_recv()
            {
                waiting.push(next);
            }
            if writing.len() < self.writers {
                let (batch, rest) = pick(waiting, &mut under_way, self.batch);
                waiting = rest;
                if !batch.is_empty() {
                    let books = self.books.clone();
                    writing.spawn(async move { books.write(batch).await });
                    continue;
                }
            }
            tokio::select! {
                Some(done) = writing.join_next() => match done {
                    Ok(ids) => under_way.retain(|id| !ids.contains(id)),
                    // Its callers have been told by their channels; without the ids nothing of theirs may be held back.
                    Err(error) => {
                        tracing::error!(%error, "a batch of settlements broke off");
                        under_way.clear();
                    }
                },
                next = self.queue.recv(), if open && waiting.len() < self.batch => match next {
                    Some(next) => waiting.push(next),
                    None => open = false,
                },
                () = shutdown.cancelled(), if open => {
                    self.queue.close();
                    open = false;
                }
                else => break,
            }
        }
    }
}

/// Takes a batch of different reservations, none of which is under way; the others wait.
fn pick(waiting: Vec<Waiting>, under_way: &mut HashSet<ReservationId>, most: usize) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut room = most;
    let mut blocked = HashSet::new();
    waiting.into_iter().partition(|(item, _)| {
        let id = item.settlement.id;
        // Not before one that came earlier and waits itself.
        let free = room > 0 && !blocked.contains(&id) && under_way.insert(id);
        if free {
            room -= 1;
        } else {
            blocked.insert(id);
        }
        free
    })
}

impl Books {
    pub(super) const fn new(database: Database, store: Store, epochs: Arc<Epochs>, shared: Arc<Shared>) -> Self {
        Self { database, store, epochs, shared }
    }

    /// Answers whose settlements it wrote.
    async fn write(&self, batch: Vec<Waiting>) -> HashSet<ReservationId> {
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        histogram!("weir_quota_settlement_batch").record(batch.len() as f64);
        let (items, waiting): (Vec<Item>, Vec<_>) = batch.into_iter().unzip();
        let mut late = Vec::new();
        for ((waiting, result), item) in waiting.into_iter().zip(self.settle(&items).await).zip(&items) {
            if result.as_ref().is_ok_and(|outcome| outcome.late) {
                late.push(item.settlement.id);
            }
            // A caller that has left asks again.
            let _ = waiting.send(result);
        }
        // For those who explain it later; no answer waits for it, and none is wrong without it.
        if !late.is_empty()
            && let Err(error) = self.database.bounded(endings::note_late(self.database.pool(), &late)).await
        {
            tracing::warn!(%error, settlements = late.len(), "settlements could not be noted as late");
        }
        items.iter().map(|item| item.settlement.id).collect()
    }

    async fn settle(&self, items: &[Item]) -> Vec<Result<Outcome>> {
        match self.settle_together(items).await {
            Ok(results) => results,
            // One that can't be written must not keep the others from it.
            Err(error) if items.len() > 1 && !error.is_transient() => {
                let mut results = Vec::with_capacity(items.len());
                for item in items {
                    let result = self.settle_together(std::slice::from_ref(item)).await;
                    results.push(result.and_then(|mut results| results.pop().unwrap_or(Err(Error::Stopping))));
                }
                results
            }
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The generation in which they count, if any of them is in a window whose buckets have no version: then they may be written
    /// only before counters are read for a later one. What was reserved in an earlier one must be counted in this one first. A
    /// store that does not answer loads nothing.
    async fn confirm(&self, items: &[Item]) -> Result<Option<u64>> {
        let mut rolling = items.iter().filter(|item| item.is_in_long_rolling_window());
        let Some(item) = rolling.next() else { return Ok(None) };
        let epoch = self.epochs.current().await?;
        if item.epoch != epoch.number() || rolling.any(|item| item.epoch != epoch.number()) {
            return Err(Error::Unsettled("the store has changed"));
        }
        match self.store.now(&epoch.store, &item.settlement.organization).await {
            Err(Failure::OtherGeneration) => {
                self.epochs.reload().await?;
                Err(Error::Unsettled("the store has changed"))
            }
            _ => Ok(Some(epoch.number())),
        }
    }

    async fn settle_together(&self, items: &[Item]) -> Result<Vec<Result<Outcome>>> {
        let before = self.confirm(items).await?;
        let rows: Vec<NewSettlement> = items.iter().map(|item| item.settlement.clone()).collect();
        let (settled, totals) = self.record(&rows, before).await?;
        let settled: HashMap<ReservationId, Settled> = settled.into_iter().map(|row| (row.id, row)).collect();
        let totals = Totals::new(totals);
        let ended =
            |item: &&Item| settled.get(&item.settlement.id).is_some_and(|row| !row.taken_over && goes_by(item, row));
        let ours: Vec<&Item> = items.iter().filter(ended).collect();
        let applied = self.apply(&ours, &settled, &totals).await;
        let is_held = |item: &Item| {
            let applied = applied.get(&item.settlement.organization).and_then(|applied| applied.as_ref().ok());
            applied.is_some_and(|applied| applied.get(&item.settlement.id) == Some(&Applied::Held))
        };
        let ended: Vec<&Item> = ours.into_iter().filter(|item| !is_held(item)).collect();
        let untold = self.apply_shared(&ended, &settled, &totals).await;
        let outcome = |item: &Item| {
            let row =
                settled.get(&item.settlement.id).ok_or_else(|| Error::Bug("a settlement without a row".to_owned()))?;
            let decided = decide(item, row)?;
            // Durable, but the fast store does not know: the caller must ask again.
            let applied = applied.get(&item.settlement.organization).cloned().unwrap_or(Ok(HashMap::new()))?;
            if let Some(error) = untold.get(&item.settlement.id) {
                return Err(error.clone());
            }
            match applied.get(&item.settlement.id) {
                Some(Applied::Held) => Err(Error::HeldMeanwhile { duplicate: decided.duplicate }),
                applied => Ok(Outcome { late: applied.is_some_and(|applied| applied.is_late()), ..decided }),
            }
        };
        Ok(items.iter().map(outcome).collect())
    }

    async fn record(
        &self,
        rows: &[NewSettlement],
        before: Option<u64>,
    ) -> Result<(Vec<Settled>, Vec<(OrganizationId, Total)>)> {
        let mut attempts = 0;
        loop {
            match self.database.bounded(settlements::settle(self.database.pool(), rows, before)).await {
                Err(weir_database::Error::Serialization) if attempts < 3 => attempts += 1,
                result => return result?.ok_or(Error::Unsettled("the store has changed")),
            }
        }
    }

    /// Tells the fast store what Postgres has, tenant by tenant.
    async fn apply(
        &self,
        items: &[&Item],
        settled: &HashMap<ReservationId, Settled>,
        totals: &Totals,
    ) -> HashMap<OrganizationId, Result<HashMap<ReservationId, Applied>>> {
        let mut by_tenant: HashMap<OrganizationId, Vec<Apply>> = HashMap::new();
        for item in items {
            let organization = item.settlement.organization;
            if let Some(row) = settled.get(&item.settlement.id)
                && row.organization == organization
            {
                by_tenant.entry(organization).or_default().push(application(item, row, totals));
            }
        }
        let tell = by_tenant.iter().map(|(organization, applies)| async move {
            let applied = self.tell(organization, applies).await;
            let applied = applied.map(|applied| applies.iter().map(|apply| apply.id).zip(applied).collect());
            (*organization, applied)
        });
        join_all(tell).await.into_iter().collect()
    }

    /// Tells the accounts of limits across tenants; answers for which reservations that failed.
    async fn apply_shared(
        &self,
        items: &[&Item],
        settled: &HashMap<ReservationId, Settled>,
        totals: &Totals,
    ) -> HashMap<ReservationId, Error> {
        let of = |item: &&Item| {
            let row = settled.get(&item.settlement.id)?;
            (row.organization == item.settlement.organization).then(|| endings(item, row, totals))
        };
        let endings: Vec<shared::Ending> = items.iter().filter_map(of).flatten().collect();
        if endings.is_empty() { HashMap::new() } else { self.shared.apply(endings).await }
    }

    async fn tell(&self, organization: &OrganizationId, applies: &[Apply]) -> Result<Vec<Applied>> {
        let epoch = self.epochs.current().await?;
        match self.store.settle(&epoch.store, organization, applies).await {
            Err(Failure::OtherGeneration) => {
                let epoch = self.epochs.reload().await?;
                Ok(self.store.settle(&epoch.store, organization, applies).await?)
            }
            Err(failure) => {
                counter!("weir_quota_settlements_not_applied_total").increment(applies.len() as u64);
                Err(failure.into())
            }
            Ok(applied) => Ok(applied),
        }
    }
}

/// Whether what is charged is charged where the settlement says, or nothing is.
fn goes_by(item: &Item, row: &Settled) -> bool {
    let asked = &item.settlement.handle;
    row.released || asked.is_empty() || row.handle.as_ref().is_none_or(|settled| settled == asked)
}

/// What the caller is told about the row that is there now.
fn decide(item: &Item, row: &Settled) -> Result<Outcome> {
    let asked = &item.settlement;
    if row.organization != asked.organization {
        return Err(Error::IdReused("the reservation is another organisation's"));
    }
    if row.taken_over {
        return Err(Error::TakenOver);
    }
    if !goes_by(item, row) {
        let settled = row.handle.clone().unwrap_or_default().into();
        return Err(Error::SettledOtherwise { settled, asked: asked.handle.clone().into() });
    }
    match (asked.released, row.released) {
        (false, true) => Err(Error::Released),
        (true, false) => Err(Error::Committed),
        (true, true) | (false, false) => {
            Ok(Outcome { amounts: row.amounts.clone(), duplicate: !row.applied, late: false })
        }
    }
}
