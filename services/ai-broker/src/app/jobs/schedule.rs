//! Schedules: jobs that are created at times.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::manage::Page;
use super::{Jobs, new_id, unavailable};
use crate::domain::jobs::{InvalidJob, Pace, Spec};
use crate::storage::jobs::JobKey;
use crate::storage::jobs::insert::{self, NewJob};
use crate::storage::jobs::schedules::{self, ScheduleRow};

/// How often is looked for those whose time has come.
const LOOK: Duration = Duration::from_millis(250);
/// The most at once.
const MOST: i64 = 200;

/// A schedule that somebody asks for.
#[derive(Debug)]
pub(crate) struct NewSchedule {
    pub(crate) organization: OrganizationId,
    pub(crate) spec: Spec,
    pub(crate) cron: Option<String>,
    /// In milliseconds.
    pub(crate) every: Option<i64>,
    pub(crate) time_zone: String,
}

fn pace(cron: Option<&str>, every: Option<i64>, time_zone: &str) -> Result<Pace, InvalidJob> {
    match (cron, every) {
        (Some(pattern), None) => Pace::cron(pattern, time_zone),
        (None, Some(millis)) => Pace::every(millis),
        _ => Err(InvalidJob::new("schedule", "has either `cron` or `every`")),
    }
}

fn invalid(error: InvalidJob) -> Error {
    Error::invalid(error.field, error.message)
}

impl Jobs {
    /// Begins a schedule.
    ///
    /// # Errors
    /// It can't be kept, its job can't be carried out, or there are too many.
    pub(crate) async fn create_schedule(&self, new: NewSchedule) -> Result<ScheduleRow, Error> {
        new.spec.check().map_err(invalid)?;
        self.check_storage(new.organization, &new.spec).await?;
        let plan = self.broker.entitlements.of(new.organization).await?;
        plan.check_feature(&new.spec.who.feature)?;
        let now = self.broker.clock.now();
        let pace = pace(new.cron.as_deref(), new.every, &new.time_zone).map_err(invalid)?;
        let next_at = pace.next(now, now).map_err(invalid)?;
        let row = ScheduleRow {
            organization_id: new.organization.into(),
            schedule_id: new_id(),
            cron: new.cron,
            every_ms: new.every,
            time_zone: if new.time_zone.is_empty() { "UTC".into() } else { new.time_zone },
            next_at,
            priority: plan.priority,
            spec: serde_json::to_vec(&new.spec).map_err(Error::defect)?,
            created_at: now,
        };
        let insert = async {
            let mut tx = self.database.begin_tenant(new.organization).await?;
            let stored = schedules::insert(&mut tx, &row, self.options.schedules).await?;
            tx.commit().await?;
            Ok(stored)
        };
        let stored = self.database.bounded(insert).await.map_err(|error: DatabaseError| unavailable(&error))?;
        if !stored {
            let message = format!("An organisation has at most {} schedules.", self.options.schedules);
            return Err(Error::new(ErrorReason::InvalidArgument, message));
        }
        Ok(row)
    }

    /// A page of an organisation's schedules, newest first; and whether there are more.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn list_schedules(
        &self,
        organization: OrganizationId,
        page: Page,
    ) -> Result<(Vec<ScheduleRow>, bool), Error> {
        let read = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let rows = schedules::list(&mut tx, organization, page.before, i64::from(page.size) + 1).await?;
            tx.rollback().await?;
            Ok(rows)
        };
        let mut rows = self.database.bounded(read).await.map_err(|error: DatabaseError| unavailable(&error))?;
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        Ok((rows, more))
    }

    /// Ends a schedule.
    ///
    /// # Errors
    /// There is none, or Postgres is away.
    pub(crate) async fn delete_schedule(&self, organization: OrganizationId, schedule: Uuid) -> Result<(), Error> {
        let delete = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let deleted = schedules::delete(&mut tx, organization, schedule).await?;
            tx.commit().await?;
            Ok(deleted)
        };
        let deleted = self.database.bounded(delete).await.map_err(|error: DatabaseError| unavailable(&error))?;
        let name = || format!("organizations/{organization}/schedules/{schedule}");
        if deleted { Ok(()) } else { Err(Error::not_found(&name())) }
    }

    /// Creates the jobs whose time has come, until the shutdown.
    pub(super) async fn follow_schedules(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if self.database.bounded(self.create_due()).await.is_ok_and(|created| created > 0) {
                self.wake.notify_one();
            }
        }
    }

    /// The job and the schedule's next time are written together, so each time comes once, whatever is killed.
    async fn create_due(&self) -> Result<usize, DatabaseError> {
        let mut tx = self.database.begin().await?;
        let due = schedules::due(&mut tx, MOST).await?;
        let now = self.broker.clock.now();
        let jobs: Vec<NewJob> = due.iter().map(|row| self.scheduled(row, now)).collect();
        if !jobs.is_empty() {
            insert::insert(&mut *tx, &jobs, None).await?;
        }
        for row in &due {
            let next =
                pace(row.cron.as_deref(), row.every_ms, &row.time_zone).and_then(|pace| pace.next(row.next_at, now));
            if let Err(error) = &next {
                tracing::warn!(schedule = %row.schedule_id, %error, "a schedule has no next time: it ends");
            }
            schedules::advance(&mut tx, row, next.ok()).await?;
        }
        tx.commit().await?;
        Ok(jobs.len())
    }

    fn scheduled(&self, row: &ScheduleRow, now: DateTime<Utc>) -> NewJob {
        let organization: OrganizationId = row.organization_id.into();
        let age = TimeDelta::from_std(self.options.max_age).unwrap_or(TimeDelta::days(1));
        NewJob {
            key: JobKey { organization, job: new_id() },
            due_at: None,
            expires_at: now + age,
            priority: row.priority,
            place: self.place(organization, now.timestamp_millis(), row.priority),
            idempotency_key: None,
            body_hash: Vec::new(),
            schedule: Some(row.schedule_id),
            spec: row.spec.clone(),
        }
    }
}
