//! The consumer of usage's feed: one replica at a time reads it from the cursor on and rates what comes.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Billing;
use super::rate_chunk::Lease;
use crate::config;
use crate::domain::usage::Change;
use crate::error::{Error, Result};
use crate::feed::Follow;
use crate::storage::{self, cursor};

const LEAST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The consumer.
#[derive(Debug)]
pub(crate) struct Rater {
    billing: Arc<Billing>,
    config: config::Rating,
    lease: Lease,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    rated: Counter,
    mismatches: Counter,
    unrated: Gauge,
    lag: Gauge,
    chunk: Histogram,
}

impl Rater {
    /// A consumer; `instance` is this replica's own name.
    #[must_use]
    pub(crate) fn new(billing: Arc<Billing>, config: config::Rating, instance: String) -> Self {
        let lease = Lease { holder: instance, length: config.lease };
        let meters = Meters {
            rated: counter!("weir_billing_rated_events_total"),
            mismatches: counter!("weir_billing_price_mismatches_total"),
            unrated: gauge!("weir_billing_unrated_events"),
            lag: gauge!("weir_billing_rating_lag_changes"),
            chunk: histogram!("weir_billing_rating_chunk_seconds"),
        };
        Self { billing, config, lease, meters }
    }

    /// Rates until shutdown. Nothing that is under way is waited for: an interrupted chunk did not happen.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(Box::pin(self.rate())).await;
        if let Err(error) = self.release().await {
            tracing::debug!(%error, "the lease of rating ends by itself");
        }
    }

    async fn rate(&self) {
        let mut pause = LEAST_PAUSE;
        loop {
            let began = Instant::now();
            match self.hold().await {
                // Another replica rates.
                Ok(()) | Err(Error::Superseded) => pause = (self.lease.length / 3).max(LEAST_PAUSE),
                Err(error) => {
                    // What went well for a while is no series of failures.
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = LEAST_PAUSE;
                    }
                    match &error {
                        // The database's own errors have been logged.
                        Error::Database(_) => {}
                        Error::Feed(failure) if failure.is_transient() => tracing::debug!(%error, "rating waits"),
                        _ => tracing::error!(%error, "rating stands still"),
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Rates as long as the lease is held.
    async fn hold(&self) -> Result<()> {
        self.billing.publish().await?;
        let Some(mut position) = self.take_lease().await? else { return Ok(()) };
        let mut retry = Instant::now();
        let mut reader = Reader::new(self.billing.feed.follow(position).await?);
        let idle_most = self.config.feed_idle;
        loop {
            if Instant::now() >= retry {
                let (rated, remaining) = self.billing.retry_unrated(&self.lease, position).await?;
                if rated > 0 {
                    tracing::info!(rated, remaining, "events have got a price");
                    self.meters.rated.increment(u64::try_from(rated).unwrap_or_default());
                }
                gauge_set(&self.meters.unrated, remaining);
                retry = Instant::now() + self.config.retry_unrated;
            }
            let wait = (Instant::now() + self.lease.length / 3).min(retry);
            let chunk = reader.chunk(wait, self.config.linger, self.config.max_chunk).await?;
            if chunk.is_empty() {
                // Also tells whether another replica has taken over.
                let renewed = self.take_lease().await?;
                if renewed != Some(position) {
                    return Err(Error::Superseded);
                }
                if reader.heard.elapsed() > idle_most {
                    reader = Reader::new(self.billing.feed.follow(position).await?);
                }
                continue;
            }
            position = self.rate_one(position, chunk).await?;
            gauge_set(&self.meters.lag, (reader.head - position).max(0));
        }
    }

    async fn rate_one(&self, from: i64, chunk: Vec<Change>) -> Result<i64> {
        let to = chunk.last().map_or(from, |change| change.position);
        let began = Instant::now();
        let outcome = self.billing.rate_chunk(&self.lease, from, chunk).await?;
        self.meters.chunk.record(began.elapsed().as_secs_f64());
        self.meters.rated.increment(u64::try_from(outcome.rated).unwrap_or_default());
        if outcome.mismatches > 0 {
            self.meters.mismatches.increment(u64::try_from(outcome.mismatches).unwrap_or_default());
            tracing::warn!(from, to, events = outcome.mismatches, "events claim another price than the price book's");
        }
        if outcome.unrated > 0 {
            self.meters.unrated.increment(f64::from(u32::try_from(outcome.unrated).unwrap_or(u32::MAX)));
            tracing::error!(from, to, events = outcome.unrated, "events have no price: see billing.unrated_events");
        }
        Ok(to)
    }

    async fn take_lease(&self) -> Result<Option<i64>> {
        let mut tx = self.billing.database.begin().await?;
        let position = cursor::take_lease(&mut tx, &self.lease.holder, self.lease.length).await?;
        storage::commit(tx).await?;
        Ok(position)
    }

    async fn release(&self) -> Result<()> {
        let mut tx = self.billing.database.begin().await?;
        cursor::release_lease(&mut tx, &self.lease.holder).await?;
        Ok(storage::commit(tx).await?)
    }
}

fn gauge_set(gauge: &Gauge, value: i64) {
    gauge.set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
}

/// Gathers the feed's batches into chunks.
struct Reader {
    feed: Follow,
    ahead: std::collections::VecDeque<Change>,
    head: i64,
    heard: Instant,
}

impl Reader {
    fn new(feed: Follow) -> Self {
        Self { feed, ahead: std::collections::VecDeque::new(), head: 0, heard: Instant::now() }
    }

    /// The next changes, at most `most`: what comes within `linger` after the first. Empty when none comes until `wait`.
    async fn chunk(&mut self, wait: Instant, linger: Duration, most: usize) -> Result<Vec<Change>> {
        let mut until = wait;
        if !self.ahead.is_empty() {
            until = Instant::now() + linger;
        }
        while self.ahead.len() < most {
            let Ok(batch) = timeout_at(until, self.feed.next()).await else { break };
            let Some(batch) = batch? else {
                // Usage has ended the feed; what was read is still good.
                if self.ahead.is_empty() {
                    return Err(ended());
                }
                break;
            };
            self.heard = Instant::now();
            self.head = self.head.max(batch.head);
            if self.ahead.is_empty() && !batch.changes.is_empty() {
                until = Instant::now() + linger;
            }
            self.ahead.extend(batch.changes);
        }
        let count = self.ahead.len().min(most);
        Ok(self.ahead.drain(..count).collect())
    }
}

fn ended() -> Error {
    let status = tonic::Status::unavailable("usage has ended the feed");
    Error::Feed(Box::new(weir_rpc::Failure::from(&status)))
}
