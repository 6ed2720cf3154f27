//! Putting all counters back after a loss, before anybody asks for them.
//!
//! Every answer is right without this, because counters are loaded when they are first asked for. But that is a few round trips
//! for each subject, and after a loss all of them are asked for at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weir_types::OrganizationId;

use super::Quota;
use super::epochs::Epoch;
use super::warm::subject;
use crate::domain::{LimitId, Part, Plan, Value};
use crate::error::{Error, Result};
use crate::storage::counters::{self, Total};
use crate::storage::store::{InstallEntry, InstallSubject};

/// A loss that was longer ago is over: a process that starts now has nothing to restore.
const LATELY: Duration = Duration::from_secs(60);
/// Rows that are read together, and organisations that are.
const ROWS: i64 = 20_000;
const ORGANIZATIONS: i64 = 1_000;
/// Subjects that are put in place by one script: a millisecond or two of the store's time.
const SUBJECTS: usize = 250;
/// Scripts that are under way together: the store has something to do, and others come in between.
const AT_ONCE: usize = 4;

/// How often a step is tried again, and how long apart.
const ATTEMPTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The totals of one organisation by the place of their scope in the plan, and by subject.
type Grouped<'a> = HashMap<(usize, &'a str), Vec<Total>>;

impl Quota {
    /// Restores after each loss, until `shutdown`.
    pub(super) async fn restore_after_losses(&self, shutdown: CancellationToken) {
        let mut done = 0;
        while shutdown.run_until_cancelled(sleep(self.config.rebuild.check_every)).await.is_some() {
            let Some(epoch) = self.epochs.known().filter(|epoch| epoch.follows_lately(LATELY)) else { continue };
            if done == epoch.number() {
                continue;
            }
            done = epoch.number();
            let began = Instant::now();
            match shutdown.run_until_cancelled(Box::pin(self.restore(&epoch))).await {
                None => return,
                Some(Ok(0)) => {}
                Some(Ok(subjects)) => {
                    ::metrics::counter!("weir_quota_restored_total").increment(subjects);
                    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(subjects, took_ms, generation = done, "counters are restored");
                }
                // What is missing is loaded when it is asked for.
                Some(Err(error)) => tracing::warn!(%error, generation = done, "restoring counters broke off"),
            }
        }
    }

    /// Puts the counters of all organisations in place, unless another process does. Answers of how many subjects.
    async fn restore(&self, epoch: &Epoch) -> Result<u64> {
        self.epochs.read_for(epoch).await?;
        let mut lock = self.database.begin().await?;
        if !counters::begin_restoring(&mut lock).await? {
            return Ok(0);
        }
        let (mut after, mut restored) = (OrganizationId::from(uuid::Uuid::nil()), 0);
        loop {
            let page = counters::organizations(self.database.pool(), &after, ORGANIZATIONS).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let ids: Vec<OrganizationId> = page.iter().map(|(id, _)| *id).collect();
            let plans = self.entitlements.at_hand(&ids).await?;
            let (large, small): (Vec<_>, Vec<_>) = page.into_iter().partition(|(_, rows)| *rows > ROWS);
            let mut together = Vec::new();
            let mut rows = 0;
            for (id, count) in small {
                if rows + count > ROWS {
                    restored += self.restore_whole_patiently(epoch, &std::mem::take(&mut together), &plans).await?;
                    rows = 0;
                }
                rows += count;
                together.push(id);
            }
            restored += self.restore_whole_patiently(epoch, &together, &plans).await?;
            for (id, _) in large {
                if let Some(plan) = plans.get(&id) {
                    restored += self.restore_in_pieces(epoch, &id, plan).await?;
                }
            }
        }
        lock.rollback().await.map_err(weir_database::Error::from)?;
        Ok(restored)
    }

    async fn restore_whole_patiently(
        &self,
        epoch: &Epoch,
        ids: &[OrganizationId],
        plans: &HashMap<OrganizationId, Arc<Plan>>,
    ) -> Result<u64> {
        let mut attempts = 0;
        loop {
            match self.restore_whole(epoch, ids, plans).await {
                Err(error) => self.pause_after(error, epoch, &mut attempts).await?,
                restored => return restored,
            }
        }
    }

    /// After a loss stores are slow to answer; only one that has lost its data again ends the work.
    async fn pause_after(&self, error: Error, epoch: &Epoch, attempts: &mut usize) -> Result<()> {
        *attempts += 1;
        let over = self.epochs.known().is_none_or(|known| known.number() != epoch.number());
        if over || !error.is_transient() || *attempts > ATTEMPTS {
            return Err(error);
        }
        sleep(PAUSE).await;
        Ok(())
    }

    async fn restore_whole(
        &self,
        epoch: &Epoch,
        ids: &[OrganizationId],
        plans: &HashMap<OrganizationId, Arc<Plan>>,
    ) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let fences = self.fences(epoch, ids).await?;
        let mut by_organization: HashMap<OrganizationId, Vec<Total>> = HashMap::new();
        for (id, total) in counters::living(self.database.pool(), ids, None).await? {
            by_organization.entry(id).or_default().push(total);
        }
        let mut restored = 0;
        for (id, fence) in ids.iter().zip(&fences) {
            if let (Some(totals), Some(plan)) = (by_organization.get(id), plans.get(id)) {
                restored += self.put_back(epoch, id, plan, fence, totals).await?;
            }
        }
        Ok(restored)
    }

    /// One with more counters than should be in memory at once.
    async fn restore_in_pieces(&self, epoch: &Epoch, id: &OrganizationId, plan: &Plan) -> Result<u64> {
        let mut restored = 0;
        for scope in plan.scopes.iter().filter(|scope| scope.durable) {
            let limits: Vec<LimitId> =
                scope.windows.iter().filter(|limit| limit.durable).map(|limit| limit.id).collect();
            // Before every subject but the organisation's own, which is empty, and loaded with its next request.
            let mut after = String::new();
            let mut attempts = 0;
            loop {
                match self.restore_piece(epoch, id, plan, &limits, &after).await {
                    Err(error) => self.pause_after(error, epoch, &mut attempts).await?,
                    Ok((some, until)) => {
                        restored += some;
                        attempts = 0;
                        match until {
                            Some(until) => after = until,
                            None => break,
                        }
                    }
                }
            }
        }
        Ok(restored)
    }

    /// Answers of how many subjects, and where the next piece begins.
    async fn restore_piece(
        &self,
        epoch: &Epoch,
        id: &OrganizationId,
        plan: &Plan,
        limits: &[LimitId],
        after: &str,
    ) -> Result<(u64, Option<String>)> {
        let until = counters::piece(self.database.pool(), id, limits, after, ROWS / 4).await?;
        let fences = self.fences(epoch, &[*id]).await?;
        let piece = Some((limits, after, until.as_deref()));
        let totals = counters::living(self.database.pool(), &[*id], piece).await?;
        let totals: Vec<Total> = totals.into_iter().map(|(_, total)| total).collect();
        Ok((self.put_back(epoch, id, plan, &fences[0], &totals).await?, until))
    }

    /// Taken before Postgres is read, as for every load.
    async fn fences(&self, epoch: &Epoch, ids: &[OrganizationId]) -> Result<Vec<Vec<u8>>> {
        self.store.register(ids).await?;
        let mut fences = Vec::with_capacity(ids.len());
        for some in ids.chunks(64) {
            fences.extend(try_join_all(some.iter().map(|id| self.store.fence(id))).await?);
        }
        if self.epochs.verify().await?.number() == epoch.number() {
            Ok(fences)
        } else {
            Err(Error::Unsettled("the store has lost its data again"))
        }
    }

    async fn put_back(
        &self,
        epoch: &Epoch,
        id: &OrganizationId,
        plan: &Plan,
        fence: &[u8],
        totals: &[Total],
    ) -> Result<u64> {
        // The store's time, as for every load.
        let now = self.store.now(&epoch.store, id).await?;
        let subjects: Vec<InstallSubject> = grouped(plan, totals)
            .into_iter()
            .filter_map(|((place, text), totals)| {
                let scope = &plan.scopes[place];
                let value = Value::from_text(&scope.scope, text)?;
                let part = Part { scope, value: &value, touches: smallvec::SmallVec::new(), concurrent: false };
                Some(subject(&part, &totals, now))
            })
            .filter(says_something)
            .collect();
        let mut restored = 0;
        for some in subjects.chunks(SUBJECTS * AT_ONCE) {
            let scripts = some.chunks(SUBJECTS).map(|some| self.store.install(&epoch.store, id, fence, some));
            for (installed, some) in join_all(scripts).await.into_iter().zip(some.chunks(SUBJECTS)) {
                if installed? {
                    restored += some.len() as u64;
                }
            }
        }
        Ok(restored)
    }
}

fn grouped<'a>(plan: &Plan, totals: &'a [Total]) -> Grouped<'a> {
    let places: HashMap<LimitId, usize> = plan
        .scopes
        .iter()
        .enumerate()
        .flat_map(|(place, scope)| scope.windows.iter().map(move |limit| (limit.id, place)))
        .collect();
    let mut grouped = Grouped::new();
    for total in totals {
        if let Some(place) = places.get(&total.limit) {
            grouped.entry((*place, &total.subject)).or_default().push(total.clone());
        }
    }
    // As they are loaded: in the order of their periods.
    grouped.values_mut().for_each(|totals| totals.sort_unstable_by_key(|total| total.period));
    grouped
}

/// Whether a counter of it is not as if it had never been touched: the others need no place in memory.
fn says_something(subject: &InstallSubject) -> bool {
    subject.entries.iter().any(|(_, _, entry)| match entry {
        InstallEntry::Period(_, _, version) => *version > 0,
        InstallEntry::Rolling(buckets) => !buckets.is_empty(),
    })
}
