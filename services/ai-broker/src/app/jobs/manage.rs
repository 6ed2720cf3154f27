//! What clients do with their jobs: look, list, cancel, run again.

use std::time::Duration;

use uuid::Uuid;
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::{Jobs, not_found, unavailable, webhooks};
use crate::domain::jobs::Spec;
use crate::domain::jobs::signature::WebhookSecret;
use crate::storage::jobs::read::{self, Filter, JobRow, ResultRow};
use crate::storage::jobs::{JobKey, change, deliveries, secrets, state};

/// The longest time for which an old secret goes on signing.
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// A job as its tenant sees it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) row: JobRow,
    pub(crate) spec: Spec,
    pub(crate) detail: Detail,
    /// So far; none without detail.
    pub(crate) results: Vec<ResultRow>,
    pub(crate) standing: Option<Standing>,
}

/// How much of a job is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What a list has of it.
    Basic,
    /// With bodies and results.
    Full,
}

/// Where a job stands that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// From 1.
    pub(crate) position: i32,
    pub(crate) eta: Option<Duration>,
}

/// Which page of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Older than this one.
    pub(crate) before: Option<Uuid>,
    pub(crate) size: u32,
}

/// A page of jobs.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) jobs: Vec<View>,
    /// There are more, older than the last one.
    pub(crate) more: bool,
}

impl Jobs {
    /// A job as it stands.
    ///
    /// # Errors
    /// There is none, or Postgres is away.
    pub(crate) async fn get(&self, key: JobKey, detail: Detail) -> Result<View, Error> {
        let found = self.database.bounded(self.find(key, detail)).await.map_err(|error| unavailable(&error))?;
        let (row, results, ahead) = found.ok_or_else(|| not_found(key))?;
        let standing = self.standing(key, &row, ahead);
        view(row, detail, results, standing)
    }

    async fn find(
        &self,
        key: JobKey,
        detail: Detail,
    ) -> Result<Option<(JobRow, Vec<ResultRow>, Option<i64>)>, DatabaseError> {
        let mut tx = self.database.begin_tenant(key.organization).await?;
        let found = read::find(&mut tx, key).await?;
        let results = match &found {
            Some(row) if row.current_step > 0 && detail == Detail::Full => read::results(&mut tx, key).await?,
            _ => Vec::new(),
        };
        tx.rollback().await?;
        let Some(row) = found else { return Ok(None) };
        let mut ahead = None;
        if row.state == state::READY {
            // Who stands before it is nobody's row but a number: asked for as the service, which sees all tenants.
            let mut tx = self.database.begin().await?;
            ahead = read::glance(&mut tx, &[key]).await?.first().and_then(|glance| glance.ahead);
            tx.rollback().await?;
        }
        Ok(Some((row, results, ahead)))
    }

    /// Where it stands: before the brokers, or in a provider's line. Never further back than it was told before.
    pub(super) fn standing(&self, key: JobKey, row: &JobRow, ahead: Option<i64>) -> Option<Standing> {
        let now = match (row.state, ahead, row.position) {
            (state::READY, Some(ahead), _) => i32::try_from(ahead + 1).unwrap_or(i32::MAX),
            (state::PROCESSING, _, Some(position)) => position,
            _ => return None,
        };
        let told = self.told.entry(key).and_upsert_with(|told| told.map_or(now, |told| told.into_value().min(now)));
        let eta = row.eta_ms.filter(|_| row.state == state::PROCESSING);
        let eta = eta.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
        Some(Standing { position: told.into_value(), eta })
    }

    /// A page of an organisation's jobs, newest first.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn list(&self, organization: OrganizationId, filter: Filter, page: Page) -> Result<Listed, Error> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let read = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let rows = read::list(&mut tx, organization, filter, page.before, i64::from(page.size) + 1).await?;
            tx.rollback().await?;
            Ok(rows)
        };
        let mut rows = self.database.bounded(read).await.map_err(|error: DatabaseError| unavailable(&error))?;
        let more = rows.len() > size;
        rows.truncate(size);
        let jobs = rows.into_iter().map(|row| {
            let key = JobKey::new(row.organization_id, row.job_id);
            let standing = self.standing(key, &row, None);
            view(row, Detail::Basic, Vec::new(), standing)
        });
        Ok(Listed { jobs: jobs.collect::<Result<_, _>>()?, more })
    }

    /// Asks for a job's end. One that has ended stays as it is.
    ///
    /// # Errors
    /// There is none, or Postgres is away.
    pub(crate) async fn cancel(&self, key: JobKey) -> Result<View, Error> {
        let cancel = async {
            let mut tx = self.database.begin_tenant(key.organization).await?;
            let before = change::cancel(&mut tx, key).await?;
            if before.is_some_and(|before| before < state::PROCESSING) {
                self.tell_of_cancelling(&mut tx, key).await?;
            }
            tx.commit().await?;
            Ok(before)
        };
        let before = self.database.bounded(cancel).await.map_err(|error: DatabaseError| unavailable(&error))?;
        match before.ok_or_else(|| not_found(key))? {
            // At once if it is here; the others hear of it with their next beat.
            state::PROCESSING => self.flights.cancel(key),
            state::DELAYED | state::READY => self.metrics.ended(state::CANCELLED, Duration::ZERO),
            _ => {}
        }
        self.get(key, Detail::Full).await
    }

    async fn tell_of_cancelling(&self, tx: &mut sqlx::PgConnection, key: JobKey) -> Result<(), DatabaseError> {
        let Some(row) = read::find(&mut *tx, key).await? else { return Ok(()) };
        let url = serde_json::from_slice::<Spec>(&row.spec).map(|spec| spec.webhook_url).unwrap_or_default();
        if url.is_empty() {
            return Ok(());
        }
        let delivery = webhooks::ended(key, &url, state::CANCELLED, None, self.broker.clock.now());
        deliveries::insert(tx, key, &delivery).await
    }

    /// Queues a dead job once more.
    ///
    /// # Errors
    /// There is none, it has not failed and was not cancelled, or Postgres is away.
    pub(crate) async fn rerun(&self, key: JobKey) -> Result<View, Error> {
        let priority = self.broker.entitlements.of(key.organization).await?.priority;
        let place = self.place(key.organization, self.broker.clock.now().timestamp_millis(), priority);
        let rerun = async {
            let mut tx = self.database.begin_tenant(key.organization).await?;
            let done = change::rerun(&mut tx, key, place, self.options.max_age).await?;
            tx.commit().await?;
            Ok(done)
        };
        let done = self.database.bounded(rerun).await.map_err(|error: DatabaseError| unavailable(&error))?;
        let view = self.get(key, Detail::Full).await?;
        if !done {
            let message = "Only a job that has failed or was cancelled can be run again.";
            return Err(Error::new(ErrorReason::InvalidArgument, message).field("name", message));
        }
        self.told.invalidate(&key);
        self.wake.notify_one();
        Ok(view)
    }

    /// Begins a new secret for an organisation's webhooks; the answer is the only place where it is shown.
    ///
    /// # Errors
    /// The overlap is too long, or Postgres is away.
    pub(crate) async fn rotate_secret(&self, organization: OrganizationId, overlap: Duration) -> Result<String, Error> {
        if overlap > LONGEST_OVERLAP {
            return Err(Error::invalid("overlap", "must be at most 30 days"));
        }
        let rotate = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let version = secrets::rotate(&mut tx, organization, overlap).await?;
            tx.commit().await?;
            Ok(version)
        };
        let version = self.database.bounded(rotate).await.map_err(|error: DatabaseError| unavailable(&error))?;
        Ok(WebhookSecret::derive(&self.master, organization, version).expose())
    }
}

/// What a tenant sees of a row.
pub(super) fn view(
    row: JobRow,
    detail: Detail,
    results: Vec<ResultRow>,
    standing: Option<Standing>,
) -> Result<View, Error> {
    let spec = serde_json::from_slice(&row.spec).map_err(Error::defect)?;
    Ok(View { row, spec, detail, results, standing })
}
