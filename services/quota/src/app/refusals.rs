//! The log of refusals: a sample of what Reserve refused, written in the background.
//!
//! It is for people who must explain a refusal, so the first ones of each tenant matter and the thousandth does not: each tenant has
//! a bound, and what it leaves out is counted. What Postgres does not take in time is dropped; nothing waits for it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::counter;
use chrono::DateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_database::Database;

use super::reserve::Request;
use crate::config;
use crate::domain::{Millis, Value};
use crate::error::Error;
use crate::storage::refusals::{self, Refusal, RefusedLimit};

/// Which refusals of one tenant are written: so many at once, and then so many a minute.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// When all that was written has been earned back, in milliseconds (GCRA's theoretical arrival time).
    arrival: AtomicI64,
    /// How many were left out since the last one that was written.
    suppressed: AtomicU64,
}

/// Where refusals are handed in.
#[derive(Debug)]
pub(super) struct Refusals {
    queue: mpsc::Sender<Refusal>,
    /// Between two refusals of a tenant, in the long run.
    interval: Millis,
    /// How far ahead of that a tenant may be.
    burst: Millis,
}

/// Writes them.
pub(super) struct Writer {
    queue: mpsc::Receiver<Refusal>,
    database: Database,
}

/// The most of one statement.
const BATCH: usize = 500;
/// How often a batch is tried before it is dropped, and between the attempts.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn new(config: &config::Refusals, database: Database) -> (Refusals, Writer) {
    let (sender, queue) = mpsc::channel(config.queue);
    let interval = 60_000 / Millis::from(config.per_minute.max(1));
    let burst = interval * Millis::from(config.burst.max(1) - 1);
    (Refusals { queue: sender, interval, burst }, Writer { queue, database })
}

impl Sampler {
    /// Whether this one is written; then how many were left out before it.
    fn admits(&self, interval: Millis, burst: Millis, now: Millis) -> Option<u64> {
        let next = |arrival: Millis| {
            let due = arrival.max(now);
            (due - now <= burst).then_some(due + interval)
        };
        match self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Some(self.suppressed.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Refusals {
    /// Notes that a reservation was refused, if that is a decision and the tenant's bound allows it. What is wrong with the request,
    /// and overload, are not decisions.
    pub(super) fn note(&self, sampler: &Sampler, request: &Request, error: &Error, now: Millis) {
        let is_decision = match error {
            Error::Refused(_) | Error::Rebuilding(_) => true,
            Error::Store(failure) => failure.is_outage(),
            _ => false,
        };
        if !is_decision {
            return;
        }
        let Some(suppressed) = sampler.admits(self.interval, self.burst, now) else { return };
        let limits = if let Error::Refused(limits) = error { limits.as_slice() } else { &[] };
        let told = weir_rpc::Error::from(error.clone());
        let refusal = Refusal {
            id: request.id,
            organization: request.subject.organization,
            at: DateTime::from_timestamp_millis(now).unwrap_or_default(),
            reason: told.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
            message: told.message().to_owned(),
            subject: request.subject.values.iter().map(Value::field).collect(),
            amounts: request.amounts.iter().map(|(unit, amount)| (unit.to_string(), amount)).collect(),
            limits: limits.iter().map(|limit| RefusedLimit::new(limit, &request.subject)).collect(),
            suppressed: i64::try_from(suppressed).unwrap_or(i64::MAX),
        };
        if self.queue.try_send(refusal).is_err() {
            sampler.suppressed.fetch_add(suppressed + 1, Ordering::Relaxed);
            counter!("weir_quota_refusals_dropped_total").increment(1);
        }
    }
}

impl Writer {
    /// Writes what is handed in; at the end what is left.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                received = self.queue.recv_many(&mut batch, BATCH) => received,
                () = shutdown.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            self.write(&batch, &shutdown).await;
            batch.clear();
        }
    }

    async fn write(&self, batch: &[Refusal], shutdown: &CancellationToken) {
        for attempt in 1..=ATTEMPTS {
            let insert = refusals::insert(self.database.pool(), batch);
            let Err(error) = self.database.bounded(insert).await else { return };
            if attempt == ATTEMPTS || shutdown.is_cancelled() {
                counter!("weir_quota_refusals_dropped_total").increment(batch.len() as u64);
                tracing::warn!(%error, refusals = batch.len(), "refusals could not be written down");
                return;
            }
            shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_a_burst_and_a_rate_and_what_is_left_out_is_counted() {
        // Twenty at once, one a second.
        let (sampler, interval, burst) = (Sampler::default(), 1_000, 19_000);
        let admitted = (0..100).filter(|_| sampler.admits(interval, burst, 1_000_000).is_some()).count();
        assert_eq!(admitted, 20);
        assert_eq!(sampler.admits(interval, burst, 1_000_999), None);
        assert_eq!(sampler.admits(interval, burst, 1_001_000), Some(81));
        assert_eq!(sampler.admits(interval, burst, 1_001_000), None);
        assert_eq!(sampler.admits(interval, burst, 1_002_000), Some(1));
    }
}
