//! What came of jobs, many at once. Only the attempt that has the job may write.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;

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

/// Writes all of them with their results and webhooks; answers whose attempt had its job still. Doing it again changes nothing.
pub(crate) async fn write(tx: &mut PgConnection, all: &[Transition]) -> Result<HashSet<Uuid>, Error> {
    let moved: Vec<Uuid> = sqlx::query_scalar(
        "update broker.jobs j
         set state = d.state, current_step = d.current_step, tries = d.tries,
             due_at = case when d.state = 0 then now() + d.due_in * interval '1 ms' else j.due_at end,
             leased_until = case when d.state = 2 then j.leased_until end,
             position = null, eta_ms = null,
             reason = d.reason, message = d.message, http_status = d.http_status,
             ended_at = case when d.state >= 3 then now() end
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::smallint[], $5::smallint[], $6::smallint[], $7::bigint[],
             $8::integer[], $9::text[], $10::integer[])
             as d(organization_id, job_id, attempt, state, current_step, tries, due_in, reason, message, http_status)
         where j.organization_id = d.organization_id and j.job_id = d.job_id and j.attempt = d.attempt and j.state = 2
         returning j.job_id",
    )
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
    .fetch_all(&mut *tx)
    .await?;
    let moved: HashSet<Uuid> = moved.into_iter().collect();
    write_results(tx, all, &moved).await?;
    write_deliveries(tx, all, &moved).await?;
    Ok(moved)
}

async fn write_results(tx: &mut PgConnection, all: &[Transition], moved: &HashSet<Uuid>) -> Result<(), Error> {
    let with: Vec<_> = all
        .iter()
        .filter(|one| moved.contains(&one.key.job))
        .filter_map(|one| one.result.as_ref().map(|(finished, attempts)| (one, finished, *attempts)))
        .collect();
    if with.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into broker.job_results (organization_id, job_id, step, attempts, body, content_type, accounting)
         select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::smallint[], $5::bytea[], $6::text[], $7::bytea[])
         on conflict do nothing",
    )
    .bind(with.iter().map(|(one, ..)| Uuid::from(one.key.organization)).collect::<Vec<_>>())
    .bind(with.iter().map(|(one, ..)| one.key.job).collect::<Vec<_>>())
    .bind(with.iter().map(|(one, ..)| one.current_step - 1).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, _, attempts)| *attempts).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, finished, _)| finished.body.as_ref()).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, finished, _)| finished.content_type.as_str()).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, finished, _)| finished.accounting.as_deref()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_deliveries(tx: &mut PgConnection, all: &[Transition], moved: &HashSet<Uuid>) -> Result<(), Error> {
    let with: Vec<_> = all
        .iter()
        .filter(|one| moved.contains(&one.key.job))
        .filter_map(|one| one.delivery.as_ref().map(|delivery| (one, delivery)))
        .collect();
    if with.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into broker.webhook_deliveries (organization_id, delivery_id, job_id, url, payload)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[])",
    )
    .bind(with.iter().map(|(one, _)| Uuid::from(one.key.organization)).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, delivery)| delivery.id).collect::<Vec<_>>())
    .bind(with.iter().map(|(one, _)| one.key.job).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, delivery)| delivery.url.as_str()).collect::<Vec<_>>())
    .bind(with.iter().map(|(_, delivery)| delivery.payload.as_slice()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
