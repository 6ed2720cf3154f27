//! What is counted about jobs.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::storage::jobs::state;

/// Handles to every metric of jobs.
pub(super) struct JobMetrics {
    pub(super) created: Counter,
    pub(super) claimed: Counter,
    pub(super) fenced: Counter,
    pub(super) reclaimed: Counter,
    pub(super) steps_done: Counter,
    pub(super) steps_retried: Counter,
    pub(super) steps_failed: Counter,
    pub(super) webhooks_received: Counter,
    pub(super) webhooks_again: Counter,
    pub(super) webhooks_given_up: Counter,
    complete: Counter,
    failed: Counter,
    cancelled: Counter,
    seconds: Histogram,
    waiting: [Gauge; 3],
    oldest: Gauge,
}

impl JobMetrics {
    pub(super) fn new() -> Self {
        describe_counter!("weir_jobs_created_total", "Jobs that were stored here.");
        describe_counter!("weir_jobs_claimed_total", "Jobs that this broker took.");
        describe_counter!("weir_jobs_ended_total", "Jobs that ended here, by state.");
        describe_counter!("weir_jobs_fenced_total", "Ends that were not written because another attempt had the job.");
        describe_counter!("weir_jobs_reclaimed_total", "Jobs that were taken from brokers that were silent.");
        describe_counter!("weir_job_steps_total", "Tries of steps, by result.");
        describe_counter!("weir_webhooks_total", "Webhooks that were sent, by result.");
        describe_histogram!("weir_job_seconds", "From a job's creation to its end.");
        describe_gauge!("weir_jobs", "Jobs of all brokers that have not ended, by state; counted up to 100,000.");
        describe_gauge!("weir_jobs_oldest_ready_seconds", "For how long the job that is next has been ready.");
        let steps = |result: &'static str| counter!("weir_job_steps_total", "result" => result);
        let ended = |state: &'static str| counter!("weir_jobs_ended_total", "state" => state);
        let webhooks = |result: &'static str| counter!("weir_webhooks_total", "result" => result);
        Self {
            created: counter!("weir_jobs_created_total"),
            claimed: counter!("weir_jobs_claimed_total"),
            fenced: counter!("weir_jobs_fenced_total"),
            reclaimed: counter!("weir_jobs_reclaimed_total"),
            steps_done: steps("done"),
            steps_retried: steps("retried"),
            steps_failed: steps("failed"),
            webhooks_received: webhooks("received"),
            webhooks_again: webhooks("retried"),
            webhooks_given_up: webhooks("given_up"),
            complete: ended("complete"),
            failed: ended("failed"),
            cancelled: ended("cancelled"),
            seconds: histogram!("weir_job_seconds"),
            waiting: ["delayed", "ready", "processing"].map(|state| gauge!("weir_jobs", "state" => state)),
            oldest: gauge!("weir_jobs_oldest_ready_seconds"),
        }
    }

    /// A job ended.
    pub(super) fn ended(&self, state: i16, after: Duration) {
        match state {
            state::COMPLETE => &self.complete,
            state::CANCELLED => &self.cancelled,
            _ => &self.failed,
        }
        .increment(1);
        self.seconds.record(after.as_secs_f64());
    }

    /// The jobs were counted.
    #[expect(clippy::cast_precision_loss, reason = "at most a hundred thousand")]
    pub(super) fn census(&self, counts: [i64; 3], oldest: f64) {
        for (gauge, count) in self.waiting.iter().zip(counts) {
            gauge.set(count as f64);
        }
        self.oldest.set(oldest);
    }
}
