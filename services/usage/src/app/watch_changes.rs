//! Every change to the events, in commit order, then each new one.

use futures::Stream;
use futures::stream::try_unfold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::error::Error;
use crate::storage::{Store, events, events::Change};

/// So many changes are in memory at once for each watcher.
const CHUNK: i64 = 1000;

/// A part of the feed.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The next changes, in order.
    pub changes: Vec<Change>,
    /// The newest durable position.
    pub head: i64,
}

struct Watch {
    store: Store,
    known: watch::Receiver<i64>,
    shutdown: CancellationToken,
    after: i64,
    head: i64,
    /// The last position to send, when the stream ends there.
    until: Option<i64>,
    begun: bool,
}

/// The changes after the position `after`: all that are durable now, and unless `until_now` each new one. It begins with
/// the head at once, even if there are no changes to send.
///
/// The stream reads when it is polled: a slow receiver costs a chunk of memory, and no connection.
///
/// # Errors
/// When `after` lies beyond the head or the database fails; in the stream when the service stops.
pub async fn watch_changes(
    store: Store,
    feed: &Feed,
    after: i64,
    until_now: bool,
    shutdown: CancellationToken,
) -> Result<impl Stream<Item = Result<Progress, Error>> + Send + use<>, Error> {
    let known = feed.watch();
    let head = feed.head().await?;
    if after > head {
        return Err(Error::BeyondHead { after, head });
    }
    let until = until_now.then_some(head);
    let watch = Watch { store, known, shutdown, after, head, until, begun: false };
    Ok(try_unfold(watch, Watch::next))
}

impl Watch {
    async fn next(mut self) -> Result<Option<(Progress, Self)>, Error> {
        loop {
            let first = !std::mem::replace(&mut self.begun, true);
            if self.until.is_some_and(|until| self.after >= until) && !first {
                return Ok(None);
            }
            let changes = if self.after < self.head { self.read().await? } else { Vec::new() };
            // All up to the head was durable before it was read, so where nothing is found there is nothing: for a
            // stream with an end, what was superseded since it began has moved beyond that end.
            self.after = changes.last().map_or(self.after.max(self.head), |last| last.position);
            if first || !changes.is_empty() {
                self.head = self.head.max(*self.known.borrow_and_update()).max(self.after);
                return Ok(Some((Progress { changes, head: self.head }, self)));
            }
            if self.until.is_none() {
                self.wait().await?;
            }
        }
    }

    async fn read(&self) -> Result<Vec<Change>, Error> {
        let unit = self.store.begin().await?;
        let mut changes = events::changes(&unit, self.after, CHUNK).await?;
        unit.commit().await?;
        if let Some(until) = self.until {
            changes.retain(|change| change.position <= until);
        }
        Ok(changes)
    }

    async fn wait(&mut self) -> Result<(), Error> {
        let after = self.after;
        let newer = self.shutdown.run_until_cancelled(self.known.wait_for(|head| *head > after)).await;
        // The sender lives as long as the service.
        self.head = *newer.ok_or(Error::ShuttingDown)?.map_err(|_| Error::ShuttingDown)?;
        Ok(())
    }
}
