//! Jobs: stored, taken by a broker with room, carried out step by step, told of when they end.
//!
//! What holds, whatever is killed: a job that was acknowledged is carried out or said to be dead; a step whose result is stored is
//! never done again; only the attempt that has a job writes what came of it. A step that was under way when its broker died is
//! begun anew, under a new attempt, and the provider requests of both are in the books.

mod batches;
mod beats;
mod claims;
mod create;
mod deliver;
mod flights;
mod invoke;
mod manage;
mod metrics;
mod schedule;
mod slots;
mod step;
mod store;
mod upkeep;
mod watch;
mod webhooks;
mod work;
mod writes;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use weir_config::MasterKey;
use weir_database::Database;
use weir_host::Context;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::Broker;
use super::results::Results;
use crate::storage::jobs::JobKey;
use crate::storage::jobs::insert::NewJob;

use batches::Batches;
use create::Inserted;
use flights::Flights;
use metrics::JobMetrics;
use watch::Watches;
use webhooks::Webhooks;
use writes::Outcome;

pub(crate) use create::Asked;
pub(crate) use manage::{Detail, Page, Standing, View};
pub(crate) use schedule::NewSchedule;
pub(crate) use webhooks::WebhookOptions;

/// How jobs are worked on; `config.defaults.toml` says what each means.
#[derive(Debug, Clone)]
pub(crate) struct JobOptions {
    pub(crate) concurrency: usize,
    pub(crate) waiting: usize,
    pub(crate) poll: Duration,
    pub(crate) lease: Duration,
    pub(crate) beat: Duration,
    pub(crate) max_losses: i16,
    pub(crate) max_age: Duration,
    pub(crate) max_result_bytes: usize,
    pub(crate) aging: Duration,
    pub(crate) spacing: Duration,
    pub(crate) retention: Duration,
    pub(crate) watchers: usize,
    pub(crate) schedules: i64,
    pub(crate) webhooks: WebhookOptions,
}

/// Everything about jobs in this broker.
pub(crate) struct Jobs {
    broker: Arc<Broker>,
    database: Database,
    options: JobOptions,
    master: MasterKey,
    metrics: JobMetrics,
    /// Jobs that are worked on.
    slots: Arc<Semaphore>,
    /// Jobs that only wait in a provider's line.
    waiting: Arc<Semaphore>,
    flights: Flights,
    inserts: Batches<NewJob, Result<Inserted, weir_database::Error>>,
    transitions: Batches<Outcome, bool>,
    webhooks: Webhooks,
    /// None without object storage.
    results: Option<Arc<Results>>,
    watches: Watches,
    /// Where each tenant's last job was placed, so that many jobs of one do not keep those of others waiting.
    places: moka::sync::Cache<OrganizationId, i64>,
    /// The lowest position that was told of a job.
    told: moka::sync::Cache<JobKey, i32>,
    /// There may be something to take.
    wake: Notify,
    /// More was ready than there was room for.
    backlog: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Tenants and jobs that are remembered.
const REMEMBERED: u64 = 100_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// Those who ask at once to have a job stored.
const INSERTS: usize = 2000;
/// Transactions with what becomes of jobs: while one waits for the disk the next one is filled.
const WRITERS: usize = 2;

impl Jobs {
    /// Begins to work.
    pub(crate) fn start(
        broker: Arc<Broker>,
        database: Database,
        results: Option<Arc<Results>>,
        options: JobOptions,
        context: &Context,
    ) -> Arc<Self> {
        let (inserts, new) = Batches::new(INSERTS);
        let (transitions, ended) = Batches::new(options.concurrency + options.waiting);
        let ended = Arc::new(ended);
        let jobs = Arc::new(Self {
            slots: Arc::new(Semaphore::new(options.concurrency)),
            waiting: Arc::new(Semaphore::new(options.waiting)),
            webhooks: Webhooks::new(options.webhooks.clone()),
            watches: Watches::new(options.watchers),
            metrics: JobMetrics::new(),
            flights: Flights::default(),
            places: remembering(),
            told: remembering(),
            wake: Notify::new(),
            backlog: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop: context.shutdown.clone(),
            master: context.master.clone(),
            results,
            inserts,
            transitions,
            broker,
            database,
            options,
        });
        let tasks = &context.tasks;
        tasks.spawn(Arc::clone(&jobs).insert_batches(new));
        for _ in 0..WRITERS {
            tasks.spawn(Arc::clone(&jobs).write_batches(Arc::clone(&ended)));
        }
        tasks.spawn(Arc::clone(&jobs).take_jobs(jobs.tasks.token()));
        tasks.spawn(Arc::clone(&jobs).keep_beating());
        tasks.spawn(Arc::clone(&jobs).keep_up());
        tasks.spawn(Arc::clone(&jobs).follow_schedules());
        tasks.spawn(Arc::clone(&jobs).deliver_webhooks());
        tasks.spawn(Arc::clone(&jobs).feed_watches());
        if let Some(results) = &jobs.results {
            tasks.spawn(Arc::clone(results).keep_up(context.shutdown.clone()));
        }
        jobs
    }

    /// Waits until nothing is under way any more, and nothing is being taken, after the shutdown began.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The place of a tenant's next job, which is ready at `ready` (milliseconds since 1970).
    fn place(&self, organization: OrganizationId, ready: i64, priority: i32) -> i64 {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let spacing = millis(self.options.spacing);
        let turn = self.places.entry(organization).and_upsert_with(|last| match last {
            Some(last) => ready.max(last.into_value().saturating_add(spacing)),
            None => ready,
        });
        turn.into_value().saturating_sub(i64::from(priority).saturating_mul(millis(self.options.aging)))
    }
}

fn remembering<K, V>() -> moka::sync::Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build()
}

/// A database error, as callers are told.
fn unavailable(error: &weir_database::Error) -> Error {
    match error {
        weir_database::Error::Unavailable(_) | weir_database::Error::Serialization => {
            Error::unavailable("postgres", "jobs can't be reached").retry_after(Duration::from_secs(1))
        }
        _ => Error::defect(error),
    }
}

fn not_found(key: JobKey) -> Error {
    Error::not_found(&name(key))
}

/// `organizations/{organization}/jobs/{job}`.
pub(crate) fn name(key: JobKey) -> String {
    format!("organizations/{}/jobs/{}", key.organization, key.job)
}

fn new_id() -> Uuid {
    Uuid::now_v7()
}
