//! A stream of soft alerts as they fire, in whatever process.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use weir_types::OrganizationId;

use super::Quota;
use crate::error::{Error, Result};
use crate::storage::alerts::{self, Fired};

/// One message of a stream.
#[derive(Debug)]
pub struct Watched {
    /// None in a heartbeat.
    pub alert: Option<Fired>,
    /// Everything up to this alert was sent.
    pub position: i64,
}

/// Alerts that are read at once.
const PAGE: i64 = 500;

struct Watcher {
    quota: Arc<Quota>,
    organization: Option<OrganizationId>,
    read: VecDeque<Fired>,
    position: i64,
    heard: Instant,
    _room: OwnedSemaphorePermit,
}

impl Quota {
    /// Alerts after a position, or from now on; a heartbeat where none came for a while. The numbers of alerts are in the order
    /// of their commits, so none is passed over. It ends with the process.
    ///
    /// # Errors
    /// When there are too many streams, or the database does not answer.
    pub async fn watch_alerts(
        self: Arc<Self>,
        organization: Option<OrganizationId>,
        position: Option<i64>,
    ) -> Result<impl Stream<Item = Result<Watched>> + Send + use<>> {
        let room = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| Error::TooManyWatchers)?;
        let position = match position {
            Some(position) => position,
            None => self.database.bounded(alerts::last(self.database.pool())).await?,
        };
        // At once a heartbeat: who connects knows that it works, and where it is.
        let heard = Instant::now().checked_sub(self.config.alerts.heartbeat).unwrap_or_else(Instant::now);
        let watcher = Watcher { quota: self, organization, read: VecDeque::new(), position, heard, _room: room };
        Ok(futures::stream::try_unfold(watcher, async |mut watcher| {
            Ok(watcher.next().await?.map(|watched| (watched, watcher)))
        }))
    }
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<Watched>> {
        let (quota, config) = (Arc::clone(&self.quota), &self.quota.config.alerts);
        loop {
            if let Some(alert) = self.read.pop_front() {
                (self.position, self.heard) = (alert.id, Instant::now());
                return Ok(Some(Watched { position: alert.id, alert: Some(alert) }));
            }
            let database = &quota.database;
            let after = alerts::after(database.pool(), self.organization.as_ref(), self.position, PAGE);
            self.read = database.bounded(after).await?.into();
            if !self.read.is_empty() {
                continue;
            }
            if self.heard.elapsed() >= config.heartbeat {
                self.heard = Instant::now();
                return Ok(Some(Watched { alert: None, position: self.position }));
            }
            if quota.shutdown.run_until_cancelled(sleep(config.poll_every)).await.is_none() {
                return Ok(None);
            }
        }
    }
}
