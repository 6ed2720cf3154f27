//! One job: its steps in order, each until it has a result, written as it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use weir_database::Error;
use weir_proto::common::v1::ErrorReason;

use super::flights::Flight;
use super::slots::Slot;
use super::writes::Outcome;
use super::{Jobs, webhooks};
use crate::domain::jobs::{Ending, Failed, JobError, Spec, Verdict, backoff, is_resolved, judge};
use crate::storage::jobs::claim::{self, Claimed};
use crate::storage::jobs::transition::Transition;
use crate::storage::jobs::{JobKey, state};

/// Between two attempts to read.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest message that is stored.
const MAX_MESSAGE: usize = 2000;

/// A job under way.
pub(super) struct Work {
    pub(super) key: JobKey,
    pub(super) attempt: i32,
    pub(super) spec: Spec,
    pub(super) flight: Arc<Flight>,
    /// By the steps' keys: what later steps refer to.
    pub(super) results: BTreeMap<String, Bytes>,
    /// When the job was created, as this process's clock tells.
    pub(super) since: Instant,
    pub(super) expires: Instant,
    current_step: i16,
    tries: i16,
    /// Until what becomes of the job is written.
    slot: Option<Slot>,
}

impl Work {
    /// It only waits in a provider's line: its room is free for others.
    pub(super) fn step_aside(&mut self, waiting: &Arc<Semaphore>) {
        if let Ok(place) = Arc::clone(waiting).try_acquire_owned() {
            self.slot = Some(Slot::new(place));
        }
    }
}

impl Jobs {
    /// Carries a job out as far as it gets.
    pub(super) async fn work(&self, claimed: Claimed, slot: Slot) {
        let flight = self.flights.begin(claimed.key(), claimed.attempt);
        match self.prepare(&claimed, Arc::clone(&flight), slot).await {
            Ok(mut work) => while self.advance(&mut work).await {},
            Err(error) => {
                let (key, attempt) = (claimed.key(), claimed.attempt);
                let over = Transition {
                    key,
                    attempt,
                    state: state::FAILED,
                    current_step: claimed.current_step,
                    tries: claimed.tries,
                    due_in: 0,
                    error: Some(error),
                    result: None,
                    delivery: None,
                };
                self.transitions.write(Outcome { next: over, slot: None }).await;
            }
        }
        self.flights.end(&flight);
    }

    async fn prepare(&self, claimed: &Claimed, flight: Arc<Flight>, slot: Slot) -> Result<Work, JobError> {
        let spec: Spec = serde_json::from_slice(&claimed.spec)
            .map_err(|error| failure(ErrorReason::Internal, format!("the job can't be read: {error}")))?;
        if claimed.cancelled {
            flight.cancelled.cancel();
        }
        let now = Instant::now();
        let age = (claimed.now - claimed.created_at).to_std().unwrap_or_default();
        let left = (claimed.expires_at - claimed.now).to_std().unwrap_or_default();
        let mut work = Work {
            key: claimed.key(),
            attempt: claimed.attempt,
            results: BTreeMap::new(),
            since: now.checked_sub(age).unwrap_or(now),
            expires: now + left,
            current_step: claimed.current_step,
            tries: claimed.tries,
            flight,
            spec,
            slot: Some(slot),
        };
        if claimed.losses > self.options.max_losses {
            let message = format!("{} brokers were lost while they worked on it", claimed.losses);
            return Err(failure(ErrorReason::Unavailable, message));
        }
        if work.current_step > 0 && work.spec.steps.iter().any(|step| !is_resolved(step.action.body())) {
            self.load_results(&mut work).await;
        }
        Ok(work)
    }

    /// Reads the results that steps refer to, until Postgres answers or the job is lost.
    async fn load_results(&self, work: &mut Work) {
        let read = async || -> Result<_, Error> {
            let mut tx = self.database.begin().await?;
            let results = claim::results(&mut tx, work.key).await?;
            tx.rollback().await?;
            Ok(results)
        };
        while !work.flight.lost.is_cancelled() && !self.stop.is_cancelled() {
            match self.database.bounded(read()).await {
                Ok(results) => {
                    let key = |step: i16| Some(work.spec.steps.get(usize::try_from(step).ok()?)?.key.clone());
                    work.results = results.into_iter().filter_map(|(step, body)| Some((key(step)?, body))).collect();
                    return;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Does the next step and writes what came of it; whether there is another one to be done.
    async fn advance(&self, work: &mut Work) -> bool {
        let index = usize::try_from(work.current_step).unwrap_or(usize::MAX);
        // After the shutdown nothing is begun: the next step is another broker's.
        let ending = if self.stop.is_cancelled() { Ending::Released } else { self.attempt(work, index).await };
        let Some(next) = self.next(work, index, ending) else { return false };
        let (goes_on, step, ended) = (next.state == state::PROCESSING, next.current_step, next.is_end());
        let (state, last) = (next.state, next.result.as_ref().map(|(finished, _)| finished.body.clone()));
        // The room of a job that goes no further here is the next one's.
        let slot = if goes_on { None } else { work.slot.take() };
        if !self.transitions.write(Outcome { next, slot }).await.unwrap_or(false) {
            self.metrics.fenced.increment(1);
            tracing::debug!(job = %work.key.job, attempt = work.attempt, "another attempt has the job: its end was not written");
            return false;
        }
        if ended {
            self.metrics.ended(state, work.since.elapsed());
        }
        if let (Some(done), Some(body)) = (work.spec.steps.get(index), last) {
            work.results.insert(done.key.clone(), body);
        }
        (work.current_step, work.tries) = (step, 0);
        goes_on
    }

    /// What follows from how a try ended; none if the job is not ours any more.
    fn next(&self, work: &Work, index: usize, ending: Ending) -> Option<Transition> {
        let mut next = Transition {
            key: work.key,
            attempt: work.attempt,
            state: state::PROCESSING,
            current_step: work.current_step,
            tries: work.tries,
            due_in: 0,
            error: None,
            result: None,
            delivery: None,
        };
        match ending {
            Ending::Done(finished) => {
                self.metrics.steps_done.increment(1);
                next.result = Some((finished, work.tries + 1));
                (next.current_step, next.tries) = (work.current_step + 1, 0);
                if index + 1 == work.spec.steps.len() {
                    next.state = state::COMPLETE;
                }
            }
            Ending::Failed(failed) => self.after_failure(work, index, failed, &mut next),
            Ending::Cancelled => next.state = state::CANCELLED,
            Ending::Released => next.state = state::READY,
            Ending::Lost => return None,
        }
        if next.is_end() && !work.spec.webhook_url.is_empty() {
            let now = self.broker.clock.now();
            next.delivery =
                Some(webhooks::ended(work.key, &work.spec.webhook_url, next.state, next.error.as_ref(), now));
        }
        Some(next)
    }

    fn after_failure(&self, work: &Work, index: usize, failed: Failed, next: &mut Transition) {
        let tries = u16::try_from(work.tries).unwrap_or(0).saturating_add(1);
        let step = work.spec.steps.get(index);
        let wait = match judge(&failed) {
            Verdict::Final => None,
            Verdict::Waits(wait) => Some(wait),
            Verdict::Counts(least) => {
                next.tries = i16::try_from(tries).unwrap_or(i16::MAX);
                step.filter(|step| tries < step.max_attempts).map(|step| {
                    let [.., jitter] = *work.key.job.as_bytes();
                    backoff(Duration::from_millis(step.backoff), tries, jitter).max(least)
                })
            }
        };
        let mut error = failed.error;
        error.message = error.message.chars().filter(|c| *c != '\0').take(MAX_MESSAGE).collect();
        next.error = Some(error);
        match wait.filter(|wait| Instant::now() + *wait < work.expires) {
            Some(wait) => {
                self.metrics.steps_retried.increment(1);
                next.state = state::DELAYED;
                next.due_in = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            }
            None => {
                self.metrics.steps_failed.increment(1);
                next.state = state::FAILED;
            }
        }
    }
}

/// A failure of our own making.
pub(super) fn failure(reason: ErrorReason, message: impl Into<String>) -> JobError {
    JobError { reason, message: message.into(), http_status: 0 }
}
