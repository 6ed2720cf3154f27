//! Storing new jobs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{SHA256, digest};
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::batches::Batched;
use super::manage::view;
use super::slots::Slot;
use super::{Detail, Jobs, View, new_id, unavailable};
use crate::domain::jobs::Spec;
use crate::storage::jobs::claim::Claimed;
use crate::storage::jobs::insert::{self, NewJob};
use crate::storage::jobs::read::JobRow;
use crate::storage::jobs::{JobKey, state};

/// At the end: how long nothing must have come.
const LAST: Duration = Duration::from_millis(100);

/// A job that somebody asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) organization: OrganizationId,
    pub(crate) spec: Spec,
    /// Not before.
    pub(crate) run_at: Option<DateTime<Utc>>,
    /// Not after.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) idempotency_key: Option<String>,
}

/// What came of storing a job.
#[derive(Debug, Clone)]
pub(super) enum Inserted {
    New,
    /// The idempotency key was known: the job that has it, and what it was made of.
    Known(JobKey, Option<Vec<u8>>),
}

/// A job as it stands when it has just been stored.
fn fresh(new: &NewJob, now: DateTime<Utc>) -> JobRow {
    JobRow {
        organization_id: new.key.organization.into(),
        job_id: new.key.job,
        state: if new.due_at.is_some() { state::DELAYED } else { state::READY },
        current_step: 0,
        tries: 0,
        attempt: 0,
        place: new.place,
        due_at: new.due_at.unwrap_or(now),
        expires_at: new.expires_at,
        position: None,
        eta_ms: None,
        reason: None,
        message: None,
        http_status: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        schedule_id: new.schedule,
        spec: new.spec.clone(),
    }
}

impl Jobs {
    /// Stores a job; the answer comes when it is durable. With an idempotency key that is known, answers the job that has it.
    ///
    /// # Errors
    /// The job can't be carried out, or its key was used for another.
    pub(crate) async fn create(&self, asked: Asked) -> Result<View, Error> {
        asked.spec.check().map_err(|invalid| Error::invalid(invalid.field, invalid.message))?;
        self.check_storage(asked.organization, &asked.spec).await?;
        let organization = asked.organization;
        let plan = self.broker.entitlements.of(organization).await?;
        plan.check_feature(&asked.spec.who.feature)?;
        let priority = plan.priority;
        let new = self.new_job(asked, priority)?;
        let fresh = fresh(&new, self.broker.clock.now());
        let hash = new.body_hash.clone();
        let inserted = self.inserts.write(new).await.ok_or_else(|| Error::unavailable("ai-broker", "shutting down"))?;
        match inserted.map_err(|error| unavailable(&error))? {
            Inserted::New => {
                self.metrics.created.increment(1);
                view(fresh, Detail::Full, Vec::new(), None)
            }
            Inserted::Known(known, known_hash) if known_hash.as_ref() == Some(&hash) => {
                self.get(known, Detail::Full).await
            }
            Inserted::Known(..) => {
                Err(Error::new(ErrorReason::IdReused, "This idempotency key was used for another job."))
            }
        }
    }

    fn new_job(&self, asked: Asked, priority: i32) -> Result<NewJob, Error> {
        let Asked { organization, spec, run_at, expires_at, idempotency_key } = asked;
        let now = self.broker.clock.now();
        let due_at = run_at.filter(|at| *at > now);
        let ready = due_at.unwrap_or(now);
        let latest = TimeDelta::from_std(self.options.max_age).ok().and_then(|age| ready.checked_add_signed(age));
        let latest = latest.ok_or_else(|| Error::invalid("job.run_time", "is too far away"))?;
        let expires_at = expires_at.unwrap_or(latest).min(latest);
        if expires_at <= ready {
            return Err(Error::invalid("job.expire_time", "must be after the time at which the job begins"));
        }
        let spec = serde_json::to_vec(&spec).map_err(Error::defect)?;
        // Times are not part of what a key stands for: a repetition says "in five minutes" again.
        let body_hash = digest(&SHA256, &spec).as_ref().to_vec();
        Ok(NewJob {
            key: JobKey { organization, job: new_id() },
            due_at,
            expires_at,
            priority,
            place: self.place(organization, ready.timestamp_millis(), priority),
            idempotency_key,
            body_hash,
            schedule: None,
            spec,
        })
    }

    /// Stores what comes, until nothing does after the shutdown.
    pub(super) async fn insert_batches(self: Arc<Self>, new: Batched<NewJob, Result<Inserted, DatabaseError>>) {
        loop {
            let batch = tokio::select! {
                batch = new.next() => batch,
                () = async { self.stop.cancelled().await; tokio::time::sleep(LAST).await } => { new.close().await; new.next().await }
            };
            let Some((jobs, answers)) = batch else { return };
            for (inserted, answer) in self.store(jobs).await.into_iter().zip(answers) {
                // The caller may have left.
                drop(answer.send(inserted));
            }
        }
    }

    /// Stores them. Where there is room for all that are ready and nobody waits, they are stored as taken, and worked on.
    async fn store(self: &Arc<Self>, jobs: Vec<NewJob>) -> Vec<Result<Inserted, DatabaseError>> {
        // What is taken is handed back after the shutdown: until it is worked on, something is under way.
        let _taking = self.tasks.token();
        let ready = jobs.iter().filter(|job| job.due_at.is_none()).count();
        let free = self.takes() && !self.backlog.load(Ordering::Relaxed);
        let room = if free { Slot::free(&self.slots, ready) } else { None };
        let room = room.filter(|room| room.permits() == ready);
        let lease = room.as_ref().map(|_| self.options.lease);
        let insert = insert::insert(self.database.pool(), &jobs, lease);
        let stored = match self.database.bounded(insert).await {
            Ok(stored) => stored,
            Err(error) => return jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        if lease.is_none() && ready > 0 {
            self.backlog.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
        let now = self.broker.clock.now();
        let ours = jobs.iter().filter(|job| job.due_at.is_none() && stored.contains(&job.key.job));
        self.begin(ours.map(|job| Claimed::at_once(job, now)).collect(), room);
        let mut inserted = Vec::with_capacity(jobs.len());
        for job in &jobs {
            inserted.push(match &job.idempotency_key {
                Some(key) if !stored.contains(&job.key.job) => self.known(job.key, key).await,
                _ => Ok(Inserted::New),
            });
        }
        inserted
    }

    /// The job that has the idempotency key of this one.
    async fn known(&self, new: JobKey, idempotency_key: &str) -> Result<Inserted, DatabaseError> {
        let known = insert::known(self.database.pool(), new.organization, idempotency_key);
        let known = self.database.bounded(known).await?.ok_or(DatabaseError::Serialization)?;
        Ok(Inserted::Known(JobKey { job: known.job_id, ..new }, known.body_hash))
    }
}
