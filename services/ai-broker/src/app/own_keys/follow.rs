//! Following what is stored: every broker knows of a change within `look`, and nothing waits for the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ProviderKeyId};

use super::table::Table;
use super::{OwnKeys, masters};
use crate::config::Config;
use crate::storage::own_keys::follow as storage;

/// Rows that are read at once.
const PAGE: i64 = 5_000;
/// Data keys that are wrapped anew in one transaction.
const REWRAPPED: i64 = 500;
/// How often is looked after what is written back: when keys were used, what must be wrapped anew, what is gone for good.
const UPKEEP: Duration = Duration::from_secs(10);
/// What is left of a deleted key stays for so long, so that every broker hears of it.
const GONE: Duration = Duration::from_secs(86_400);
/// Who has heard nothing for so long reads everything anew.
const STALE: Duration = Duration::from_secs(43_200);
/// At the shutdown.
const LAST: Duration = Duration::from_secs(2);

/// Up to where the changes are known.
#[derive(Debug, Default)]
pub(super) struct Followed {
    revision: i64,
    /// When they were last heard of; none before everything was read.
    heard: Option<Instant>,
}

impl OwnKeys {
    /// Follows the keys, and the configuration of master keys, until `stop`.
    pub(crate) async fn run(self: Arc<Self>, mut configs: watch::Receiver<Config>, stop: CancellationToken) {
        if !self.enabled {
            return;
        }
        let mut kept_up: Option<Instant> = None;
        while !stop.is_cancelled() {
            match self.follow().await {
                Ok(()) => {
                    if kept_up.is_none_or(|last| last.elapsed() >= UPKEEP) {
                        self.keep_up().await;
                        kept_up = Some(Instant::now());
                    }
                }
                Err(error) => tracing::debug!(%error, "the callers' own keys can't be followed now"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.look) => {}
                Ok(()) = configs.changed() => {
                    self.take_masters(&configs.borrow_and_update().clone());
                    kept_up = None;
                }
                () = stop.cancelled() => {}
            }
        }
        let last = tokio::time::timeout(LAST, self.write_used()).await;
        if !matches!(last, Ok(Ok(()))) {
            tracing::debug!("when the callers' own keys were used last is not written down");
        }
    }

    /// Takes over what has changed since the last time.
    pub(super) async fn follow(&self) -> Result<(), Error> {
        let mut followed = self.followed.lock().await;
        let head = self.database.bounded(self.head()).await?;
        let known = followed.heard.is_some_and(|heard| heard.elapsed() < STALE);
        // A database that was restored from a backup counts from before.
        if !known || head < followed.revision {
            self.read_all().await?;
            followed.revision = head;
        } else if head > followed.revision {
            followed.revision = self.read_changes(followed.revision, head).await?;
        }
        followed.heard = Some(Instant::now());
        drop(followed);
        let (keys, unopened) = self.table.read().counts();
        self.known.set(u32::try_from(keys).unwrap_or(u32::MAX));
        self.unopened.set(u32::try_from(unopened).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn head(&self) -> Result<i64, Error> {
        let mut tx = self.database.begin().await?;
        let head = storage::head(&mut tx).await?;
        tx.rollback().await?;
        Ok(head)
    }

    /// Everything, page by page; what changes meanwhile is read once more as a change.
    async fn read_all(&self) -> Result<(), Error> {
        let masters = self.masters.load_full();
        let mut table = Table::default();
        table.is_read = true;
        let nobody = || OrganizationId::from(Uuid::nil());
        let mut after = nobody();
        loop {
            let rows = self.page(async |tx| storage::all_data_keys(tx, after, PAGE).await).await?;
            let Some(last) = rows.last() else { break };
            after = last.organization;
            rows.into_iter().for_each(|row| table.put_data_key(row, &masters));
        }
        let mut after = (nobody(), ProviderKeyId::from(Uuid::nil()));
        loop {
            let rows = self.page(async |tx| storage::all_keys(tx, after, PAGE).await).await?;
            let Some(last) = rows.last() else { break };
            after = (last.view.holder.organization, last.view.id);
            rows.into_iter().for_each(|row| table.put(row));
        }
        *self.table.write() = table;
        Ok(())
    }

    /// The changes after `after`; answers up to which they are known. A change has few rows, so a page has whole ones.
    async fn read_changes(&self, after: i64, head: i64) -> Result<i64, Error> {
        let masters = self.masters.load_full();
        let data_keys = self.page(async |tx| storage::changed_data_keys(tx, after, PAGE).await).await?;
        let keys = self.page(async |tx| storage::changed_keys(tx, after, PAGE).await).await?;
        let full = |rows: usize| i64::try_from(rows).is_ok_and(|rows| rows >= PAGE);
        // Of a page that is full the last change may be there in part: it is read again with the next one.
        let until_data_keys = data_keys.last().filter(|_| full(data_keys.len())).map(|row| row.revision - 1);
        let until_keys = keys.last().filter(|_| full(keys.len())).map(|row| row.revision - 1);
        let mut table = self.table.write();
        data_keys.into_iter().for_each(|row| table.put_data_key(row, &masters));
        keys.into_iter().for_each(|row| table.put(row));
        drop(table);
        Ok(head.min(until_data_keys.unwrap_or(head)).min(until_keys.unwrap_or(head)))
    }

    async fn page<T>(
        &self,
        read: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let page = async {
            let mut tx = self.database.begin().await?;
            let rows = read(&mut tx).await?;
            tx.rollback().await?;
            Ok::<_, Error>(rows)
        };
        self.database.bounded(page).await
    }

    /// Other master keys are configured. What can't be taken leaves everything as it was.
    fn take_masters(&self, config: &Config) {
        match masters(&config.own_keys, &self.deployment) {
            Ok(masters) => {
                let masters = Arc::new(masters);
                self.masters.store(Arc::clone(&masters));
                self.table.write().open_again(&masters);
            }
            Err(error) => tracing::error!(%error, "the master keys of callers' own keys can't be taken over"),
        }
    }

    async fn keep_up(&self) {
        let done = async {
            self.write_used().await?;
            self.rewrap().await?;
            self.page(async |tx| storage::purge(tx, GONE).await.map(|()| Vec::<()>::new())).await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "the callers' own keys can't be kept up now");
        }
    }

    /// Writes down when keys were used last.
    async fn write_used(&self) -> Result<(), Error> {
        let used = std::mem::take(&mut *self.used.lock());
        if used.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = used.iter().map(|(id, (organization, at))| (*organization, *id, *at)).collect();
        let write = async {
            let mut tx = self.database.begin().await?;
            storage::used(&mut tx, &rows).await?;
            Ok::<_, Error>(tx.commit().await?)
        };
        let written = self.database.bounded(write).await;
        if written.is_err() {
            let mut waiting = self.used.lock();
            for (id, used) in used {
                waiting.entry(id).or_insert(used);
            }
        }
        written
    }

    /// Wraps data keys anew that are under an older master key than the one that wraps now. The secrets stay as they are.
    async fn rewrap(&self) -> Result<(), Error> {
        let masters = self.masters.load_full();
        loop {
            let rows = self.page(async |tx| storage::wrapped_before(tx, masters.wraps(), REWRAPPED).await).await?;
            let rewrapped: Vec<_> = rows
                .iter()
                .filter_map(|row| {
                    let new = masters.rewrap(row.organization, &row.wrapped).ok()?;
                    Some((row.organization, row.wrapped.master_version, new))
                })
                .collect();
            if rewrapped.is_empty() {
                return Ok(());
            }
            let write = async {
                let mut tx = self.database.begin().await?;
                let done = storage::rewrap(&mut tx, &rewrapped).await?;
                tx.commit().await?;
                Ok::<_, Error>(done)
            };
            let tenants = self.database.bounded(write).await?;
            tracing::info!(tenants, version = masters.wraps(), "data keys are wrapped under another master key");
        }
    }
}
