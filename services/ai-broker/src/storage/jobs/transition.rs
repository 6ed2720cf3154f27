//! What came of jobs, many at once. Only the attempt that has the job may write.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;
use weir_database::Error;

use super::claim::{self, Claimed, TAKE};
use super::{JobKey, state};
use crate::domain::jobs::{Finished, JobError};

/// A job's next standing.
#[derive(Debug)]
pub(crate) struct Transition {
    pub(crate) key: JobKey,
    /// The attempt that writes.
    pub(crate) attempt: i32,
    pub(crate) state: i16,
    pub(crate) current_step: i16,
    pub(crate) tries: i16,
    /// Of a delay: in so many milliseconds.
    pub(crate) due_in: i64,
    pub(crate) error: Option<JobError>,
    /// Of the step before `current_step`.
    pub(crate) result: Option<(Finished, i16)>,
    /// What is to be told of its end.
    pub(crate) delivery: Option<NewDelivery>,
}

/// A webhook to be sent.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) payload: Vec<u8>,
}

impl Transition {
    /// Whether the job has ended with it.
    pub(crate) fn is_end(&self) -> bool {
        self.state >= state::COMPLETE
    }
}

/// In one statement, so that it is one round trip and a transaction of its own. Whoever was moved has no number of an attempt.
static WRITE_AND_TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with moved as (
             update broker.jobs j
             set state = d.state, current_step = d.current_step, tries = d.tries,
                 due_at = case when d.state = 0 then now() + d.due_in * interval '1 ms' else j.due_at end,
                 leased_until = case when d.state = 2 then j.leased_until end,
                 position = null, eta_ms = null,
                 reason = d.reason, message = d.message, http_status = d.http_status,
                 ended_at = case when d.state >= 3 then now() end
             from unnest($3::uuid[], $4::uuid[], $5::integer[], $6::smallint[], $7::smallint[], $8::smallint[], $9::bigint[],
                 $10::integer[], $11::text[], $12::integer[])
                 as d(organization_id, job_id, attempt, state, current_step, tries, due_in, reason, message, http_status)
             where j.organization_id = d.organization_id and j.job_id = d.job_id and j.attempt = d.attempt and j.state = 2
             returning j.organization_id, j.job_id),
         results as (
             insert into broker.job_results (organization_id, job_id, step, attempts, body, content_type, accounting)
             select d.* from unnest($13::uuid[], $14::uuid[], $15::smallint[], $16::smallint[], $17::bytea[], $18::text[],
                 $19::bytea[]) as d(organization_id, job_id, step, attempts, body, content_type, accounting)
                 join moved on moved.organization_id = d.organization_id and moved.job_id = d.job_id
             on conflict do nothing),
         deliveries as (
             insert into broker.webhook_deliveries (organization_id, delivery_id, job_id, url, payload)
             select d.* from unnest($20::uuid[], $21::uuid[], $22::uuid[], $23::text[], $24::bytea[])
                     as d(organization_id, delivery_id, job_id, url, payload)
                 join moved on moved.organization_id = d.organization_id and moved.job_id = d.job_id),
         taken as ({TAKE})
         select organization_id, job_id, 0 as attempt, 0::smallint as current_step, 0::smallint as tries, 0::smallint as losses,
             false as cancelled, now() as created_at, now() as expires_at, now() as now, ''::bytea as spec from moved
         union all select * from taken"
    )
});

/// Writes all of them with their results and webhooks, and takes up to `most` of those that are ready. Answers whose attempt had its
/// job still, and what was taken. Doing it again changes nothing of what was written.
pub(crate) async fn write_and_take(
    database: impl PgExecutor<'_>,
    all: &[Transition],
    most: usize,
    lease: Duration,
) -> Result<(HashSet<Uuid>, Vec<Claimed>), Error> {
    let results: Vec<_> = all
        .iter()
        .filter_map(|one| one.result.as_ref().map(|(finished, attempts)| (one, finished, *attempts)))
        .collect();
    let deliveries: Vec<_> =
        all.iter().filter_map(|one| one.delivery.as_ref().map(|delivery| (one, delivery))).collect();
    let rows: Vec<Claimed> = sqlx::query_as(AssertSqlSafe(WRITE_AND_TAKE.as_str()))
        .bind(claim::limit(most))
        .bind(claim::millis(lease))
        .bind(all.iter().map(|one| Uuid::from(one.key.organization)).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.key.job).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.attempt).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.state).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.current_step).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.tries).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.due_in).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.error.as_ref().map(|error| i32::from(error.reason))).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.error.as_ref().map(|error| error.message.as_str())).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.error.as_ref().map(|error| error.http_status)).collect::<Vec<_>>())
        .bind(results.iter().map(|(one, ..)| Uuid::from(one.key.organization)).collect::<Vec<_>>())
        .bind(results.iter().map(|(one, ..)| one.key.job).collect::<Vec<_>>())
        .bind(results.iter().map(|(one, ..)| one.current_step - 1).collect::<Vec<_>>())
        .bind(results.iter().map(|(_, _, attempts)| *attempts).collect::<Vec<_>>())
        .bind(results.iter().map(|(_, finished, _)| finished.body.as_ref()).collect::<Vec<_>>())
        .bind(results.iter().map(|(_, finished, _)| finished.content_type.as_str()).collect::<Vec<_>>())
        .bind(results.iter().map(|(_, finished, _)| finished.accounting.as_deref()).collect::<Vec<_>>())
        .bind(deliveries.iter().map(|(one, _)| Uuid::from(one.key.organization)).collect::<Vec<_>>())
        .bind(deliveries.iter().map(|(_, delivery)| delivery.id).collect::<Vec<_>>())
        .bind(deliveries.iter().map(|(one, _)| one.key.job).collect::<Vec<_>>())
        .bind(deliveries.iter().map(|(_, delivery)| delivery.url.as_str()).collect::<Vec<_>>())
        .bind(deliveries.iter().map(|(_, delivery)| delivery.payload.as_slice()).collect::<Vec<_>>())
        .fetch_all(database)
        .await?;
    let (moved, taken): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.attempt < claim::FIRST_ATTEMPT);
    Ok((moved.iter().map(|row| row.key().job).collect(), taken))
}
