//! What Reserve refused: a sample of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ReservationId};

use super::settlements::ByUnit;
use crate::domain::{LimitState, Subject};

/// A refusal.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Of which reservation.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// When.
    pub at: DateTime<Utc>,
    /// The `ErrorReason`.
    pub reason: String,
    /// What the caller was told.
    pub message: String,
    /// The subject's scopes beside the organisation, as handles spell them.
    pub subject: Vec<Vec<u8>>,
    /// What was asked for.
    pub amounts: ByUnit,
    /// Every limit that applied.
    pub limits: Vec<RefusedLimit>,
    /// Refusals that were left out before it.
    pub suppressed: i64,
}

/// A limit as it stood when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLimit {
    /// Its name.
    pub limit: String,
    /// What it counts.
    pub unit: String,
    /// By what it counts.
    pub scope: String,
    /// Whose counter; empty for the organisation's own.
    pub subject: String,
    /// The most there may be.
    pub cap: i64,
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
    /// How much was asked for.
    pub requested: i64,
    /// Whether it refused.
    pub refused: bool,
    /// When all of it is free again, in milliseconds.
    pub reset_ms: Option<i64>,
    /// When it could fit, in milliseconds.
    pub retry_ms: Option<i64>,
}

impl RefusedLimit {
    /// A limit of this subject.
    #[must_use]
    pub fn new(state: &LimitState, subject: &Subject) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let whose = subject.value(&crate::domain::Scope::parse(&state.scope));
        Self {
            limit: state.limit.to_string(),
            unit: state.unit.to_string(),
            scope: state.scope.to_string(),
            subject: whose.map(crate::domain::Value::text).unwrap_or_default(),
            cap: state.cap,
            used: state.used,
            held: state.held,
            requested: state.requested,
            refused: state.refuses,
            reset_ms: state.reset_after.map(millis),
            retry_ms: state.retry_after.map(millis),
        }
    }
}

/// Writes refusals.
///
/// # Errors
/// The database's; then none was written.
pub async fn insert(pool: &PgPool, refusals: &[Refusal]) -> Result<(), Error> {
    // One array of arrays would have to be rectangular: subjects travel as JSON of hexadecimal texts.
    let subjects = refusals.iter().map(|one| Json(one.subject.iter().map(|field| hex(field)).collect::<Vec<_>>()));
    sqlx::query(
        "insert into quota.refusals
            (organization_id, reservation_id, refused_at, reason, message, subject, amounts, limits, suppressed)
         select organization, id, at, reason, message,
            array(select decode(field, 'hex') from jsonb_array_elements_text(subject) field), amounts, limits, suppressed
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[],
            $8::jsonb[], $9::bigint[])
            as n (organization, id, at, reason, message, subject, amounts, limits, suppressed)",
    )
    .bind(refusals.iter().map(|one| *one.organization.as_uuid()).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| *one.id.as_uuid()).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| one.at).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| one.message.as_str()).collect::<Vec<_>>())
    .bind(subjects.collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| Json(&one.amounts)).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| Json(&one.limits)).collect::<Vec<_>>())
    .bind(refusals.iter().map(|one| one.suppressed).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const COLUMNS: &str =
    "select organization_id, reservation_id, refused_at, reason, message, subject, amounts, limits, suppressed
     from quota.refusals";

/// The last refusals of an organisation whose subject has all of these fields, newest first, among its last `among`.
///
/// # Errors
/// The database's.
pub async fn recent(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    fields: &[Vec<u8>],
    among: i64,
    most: i64,
) -> Result<Vec<Refusal>, Error> {
    let text = format!(
        "select * from ({COLUMNS} where organization_id = $1 order by refusal_id desc limit $3) recent
         where subject @> $2 limit $4"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(organization.as_uuid()).bind(fields).bind(among).bind(most);
    query.fetch_all(connection).await?.iter().map(read).collect()
}

/// The last refusals of a reservation, newest first; of any organisation if none is given.
///
/// # Errors
/// The database's.
pub async fn of(
    connection: &mut PgConnection,
    organization: Option<&OrganizationId>,
    id: &ReservationId,
    most: i64,
) -> Result<Vec<Refusal>, Error> {
    let text = format!(
        "{COLUMNS} where reservation_id = $1 and ($2::uuid is null or organization_id = $2)
         order by refusal_id desc limit $3"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id.as_uuid())
        .bind(organization.map(|organization| *organization.as_uuid()))
        .bind(most);
    query.fetch_all(connection).await?.iter().map(read).collect()
}

fn read(row: &sqlx::postgres::PgRow) -> Result<Refusal, Error> {
    Ok(Refusal {
        id: row.try_get::<Uuid, _>("reservation_id")?.into(),
        organization: row.try_get::<Uuid, _>("organization_id")?.into(),
        at: row.try_get("refused_at")?,
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        subject: row.try_get("subject")?,
        amounts: row.try_get::<Json<ByUnit>, _>("amounts")?.0,
        limits: row.try_get::<Json<Vec<RefusedLimit>>, _>("limits")?.0,
        suppressed: row.try_get("suppressed")?,
    })
}

/// Deletes some of the refusals that are older than `keep`; answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_expired(pool: &PgPool, keep: Duration, most: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from quota.refusals where ctid = any(array(
             select ctid from quota.refusals
             where refused_at < now() - make_interval(secs => $1::double precision) order by refused_at limit $2))",
    )
    .bind(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX))
    .bind(most)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
