//! How reservations ended, and what that makes of the totals: one statement for a batch, so that nothing is checked before it is
//! done.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::Stream;
use futures::TryStreamExt as _;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ReservationId};

use super::counters::{self, Total};
use crate::domain::{LimitId, Millis};

/// Amounts by unit.
pub type ByUnit = BTreeMap<String, i64>;

/// A settlement to write.
#[derive(Debug, Clone)]
pub struct NewSettlement {
    /// Which reservation.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// Whether nothing was used.
    pub released: bool,
    /// Whether the amounts are assumed.
    pub estimated: bool,
    /// What was used.
    pub amounts: ByUnit,
    /// Which counters it was held in.
    pub handle: Vec<u8>,
    /// Those of them that have a total.
    pub charges: Vec<Charge>,
}

/// A total that a settlement adds to: the amount of `unit`.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Under which organisation the total stands: the settlement's own, or nobody's for limits across tenants.
    pub account: OrganizationId,
    /// Of which limit.
    pub limit: LimitId,
    /// Whose.
    pub subject: String,
    /// The period's start, or the bucket's end.
    pub period: Millis,
    /// The unit that the limit counts.
    pub unit: String,
    /// When nobody asks for it any more, in milliseconds since 1970.
    pub expires_at: Option<Millis>,
}

/// A settlement as it stands.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Which reservation.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// Whether nothing was used.
    pub released: bool,
    /// Whether the amounts are assumed.
    pub estimated: bool,
    /// What was used.
    pub amounts: ByUnit,
    /// What an estimate had said that the amounts have replaced.
    pub replaced: Option<ByUnit>,
    /// Whether this statement wrote it; it stood there before otherwise.
    pub applied: bool,
    /// If it stood there before: with which handle; empty if nobody knew.
    pub handle: Option<Vec<u8>>,
    /// Whether it was taken over, and it is not said yet how it ended.
    pub taken_over: bool,
}

// The amounts of an estimate are replaced by those of the first commit that is none and has the same handle: what is charged is
// charged where that says. Of what was taken over nothing is charged yet, so any commit writes how it ended, and no release.
// Everything else that comes second is a repetition and leaves the row as it is (`batch` tells). Repetitions ask for the totals
// with a difference of 0, because whoever repeats may not have told the fast store the first time. Rows are locked in the order of
// their keys, settlements before totals.
const SETTLE: &str = "
with settled as (
    insert into quota.settlements as s
        (reservation_id, organization_id, released, estimated, amounts, handle, batch)
    select id, organization, released, estimated, amounts, handle, $7
    from unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[], $5::jsonb[], $6::bytea[])
        as n (id, organization, released, estimated, amounts, handle)
    where $16::bigint is null or (select quota.settles_in($16))
    order by id
    on conflict (reservation_id) do update set (amounts, replaced, estimated, batch, handle, settled_at, taken_over) = (
        select (case when better then excluded.amounts else s.amounts end),
            (case when better and not s.taken_over then s.amounts else s.replaced end),
            (case when better then excluded.estimated else s.estimated end),
            (case when better then excluded.batch else s.batch end),
            (case when length(s.handle) = 0 or better then excluded.handle else s.handle end),
            (case when better then now() else s.settled_at end),
            s.taken_over and not better
        from (select s.estimated and not s.released and not excluded.released and s.organization_id = excluded.organization_id
                and (s.taken_over or not excluded.estimated and s.handle = excluded.handle) as better) as decision
    )
    returning reservation_id, organization_id, released, estimated, amounts, replaced, batch = $7 as applied,
        batch = $7 and xmax <> 0 as replacing, case when batch <> $7 then handle end as handle, taken_over
), charges as (
    select c.account as organization_id, c.limit_id, c.subject, c.period, to_timestamp(max(c.expires_at) / 1000.0) as expires_at,
        sum(case when s.applied
            then coalesce((s.amounts ->> c.unit)::numeric, 0)
                - case when s.replacing then coalesce((s.replaced ->> c.unit)::numeric, 0) else 0 end
            else 0 end) as difference
    from unnest($8::uuid[], $9::uuid[], $10::int[], $11::text[], $12::bigint[], $13::text[], $14::bigint[], $15::uuid[])
        as c (id, organization, limit_id, subject, period, unit, expires_at, account)
    join settled s on s.reservation_id = c.id and s.organization_id = c.organization and not s.released
    group by c.account, c.limit_id, c.subject, c.period
), counted as (
    insert into quota.counters as k (organization_id, limit_id, subject, period, committed, version, expires_at)
    select organization_id, limit_id, subject, period, least(difference, 4611686018427387904)::bigint, 1, expires_at
    from charges
    order by organization_id, limit_id, subject, period
    on conflict (organization_id, limit_id, subject, period) do update
    set committed = least(k.committed::numeric + excluded.committed, 4611686018427387904)::bigint, version = k.version + 1
    returning organization_id, limit_id, subject, period, committed, version
)
select reservation_id, organization_id, released, estimated, amounts, replaced, applied, handle, taken_over,
    null::int as limit_id, null::text as subject, null::bigint as period, null::bigint as committed, null::bigint as version
from settled
union all
select null, organization_id, null, null, null, null, null, null, null, limit_id, subject, period, committed, version
from counted";

/// Writes settlements of different reservations. Answers them as they now stand, and the totals that they touch; none if they were
/// to be written only while no counters are read for a generation after `before`, and some have been.
///
/// # Errors
/// The database's; then either all was written or nothing, and doing it again is safe.
pub async fn settle(
    pool: &PgPool,
    settlements: &[NewSettlement],
    before: Option<u64>,
) -> Result<Option<(Vec<Settled>, Vec<(OrganizationId, Total)>)>, Error> {
    let batch = Uuid::now_v7();
    let charges = || settlements.iter().flat_map(|one| one.charges.iter().map(move |charge| (one, charge)));
    let rows = sqlx::query(SETTLE)
        .bind(settlements.iter().map(|one| *one.id.as_uuid()).collect::<Vec<_>>())
        .bind(settlements.iter().map(|one| *one.organization.as_uuid()).collect::<Vec<_>>())
        .bind(settlements.iter().map(|one| one.released).collect::<Vec<_>>())
        .bind(settlements.iter().map(|one| one.estimated).collect::<Vec<_>>())
        .bind(settlements.iter().map(|one| Json(&one.amounts)).collect::<Vec<_>>())
        .bind(settlements.iter().map(|one| one.handle.as_slice()).collect::<Vec<_>>())
        .bind(batch)
        .bind(charges().map(|(one, _)| *one.id.as_uuid()).collect::<Vec<_>>())
        .bind(charges().map(|(one, _)| *one.organization.as_uuid()).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| i32::try_from(charge.limit).unwrap_or(-1)).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.subject.as_str()).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.period).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.unit.as_str()).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.expires_at).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| *charge.account.as_uuid()).collect::<Vec<_>>())
        .bind(before.map(|generation| i64::try_from(generation).unwrap_or(i64::MAX)))
        .fetch_all(pool)
        .await?;
    let (mut settled, mut totals) = (Vec::with_capacity(settlements.len()), Vec::new());
    for row in rows {
        let organization: OrganizationId = row.try_get::<Uuid, _>("organization_id")?.into();
        match row.try_get::<Option<Uuid>, _>("reservation_id")? {
            None => totals.push((organization, counters::total(&row)?)),
            Some(id) => settled.push(Settled {
                id: id.into(),
                organization,
                released: row.try_get("released")?,
                estimated: row.try_get("estimated")?,
                amounts: row.try_get::<Json<ByUnit>, _>("amounts")?.0,
                replaced: row.try_get::<Option<Json<ByUnit>>, _>("replaced")?.map(|json| json.0),
                applied: row.try_get("applied")?,
                handle: row.try_get("handle")?,
                taken_over: row.try_get("taken_over")?,
            }),
        }
    }
    let written = !settled.is_empty() || settlements.is_empty();
    Ok(written.then_some((settled, totals)))
}

/// Which of these are settled.
///
/// # Errors
/// The database's.
pub async fn which(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    ids: &[ReservationId],
) -> Result<Vec<ReservationId>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| *id.as_uuid()).collect();
    let found: Vec<Uuid> = sqlx::query_scalar(
        "select reservation_id from quota.settlements
         where organization_id = $1 and reservation_id = any($2) and not taken_over",
    )
    .bind(organization.as_uuid())
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// The handle that a reservation was settled with; none if it is not settled, empty if nobody knew one.
///
/// # Errors
/// The database's.
pub async fn handle(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    id: &ReservationId,
) -> Result<Option<Vec<u8>>, Error> {
    let query = "select handle from quota.settlements
                 where organization_id = $1 and reservation_id = $2 and not taken_over";
    Ok(sqlx::query_scalar(query).bind(organization.as_uuid()).bind(id.as_uuid()).fetch_optional(connection).await?)
}

/// Marks reservations, each with its handle, as taken over, unless it is written how they ended: from then on none of them can be
/// released. Answers those that were before.
///
/// # Errors
/// The database's; doing it again is safe.
pub async fn take_over(
    pool: &PgPool,
    organization: &OrganizationId,
    expired: &[(ReservationId, Vec<u8>)],
) -> Result<Vec<ReservationId>, Error> {
    let ids: Vec<Uuid> = expired.iter().map(|(id, _)| *id.as_uuid()).collect();
    let handles: Vec<&[u8]> = expired.iter().map(|(_, handle)| handle.as_slice()).collect();
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "insert into quota.settlements
             (reservation_id, organization_id, released, estimated, amounts, handle, batch, taken_over)
         select id, $1, false, true, '{}', handle, $4, true
         from unnest($2::uuid[], $3::bytea[]) as n (id, handle) order by id
         on conflict (reservation_id) do nothing",
    )
    .bind(organization.as_uuid())
    .bind(&ids)
    .bind(handles)
    .bind(Uuid::now_v7())
    .execute(&mut *transaction)
    .await?;
    // A statement of its own, which sees what the first one has waited for.
    let released: Vec<Uuid> = sqlx::query_scalar(
        "select reservation_id from quota.settlements
         where organization_id = $1 and reservation_id = any($2) and released",
    )
    .bind(organization.as_uuid())
    .bind(ids)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(released.into_iter().map(ReservationId::from).collect())
}

/// A settlement in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which reservation.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// Whether nothing was used.
    pub released: bool,
    /// Whether the amounts are assumed.
    pub estimated: bool,
    /// What was used.
    pub amounts: ByUnit,
    /// When that was written.
    pub settled_at: DateTime<Utc>,
}

/// A page of the settlements after an id, in the order of ids.
///
/// # Errors
/// The database's.
pub async fn page(
    connection: &mut PgConnection,
    organization: Option<&OrganizationId>,
    after: Option<&ReservationId>,
    most: i64,
) -> Result<Vec<Listed>, Error> {
    const COLUMNS: &str = "select reservation_id, organization_id, released, estimated, amounts, settled_at";
    let after = after.map_or(Uuid::nil(), |id| *id.as_uuid());
    // Two statements, so that each has the plan of its own index.
    let rows = match organization {
        Some(organization) => {
            let text = format!(
                "{COLUMNS} from quota.settlements where organization_id = $3 and reservation_id > $1 and not taken_over
                 order by reservation_id limit $2"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(after).bind(most);
            query.bind(organization.as_uuid()).fetch_all(connection).await?
        }
        None => {
            let text = format!(
                "{COLUMNS} from quota.settlements where reservation_id > $1 and not taken_over
                 order by reservation_id limit $2"
            );
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(after).bind(most).fetch_all(connection).await?
        }
    };
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(Listed {
            id: row.try_get::<Uuid, _>("reservation_id")?.into(),
            organization: row.try_get::<Uuid, _>("organization_id")?.into(),
            released: row.try_get("released")?,
            estimated: row.try_get("estimated")?,
            amounts: row.try_get::<Json<ByUnit>, _>("amounts")?.0,
            settled_at: row.try_get("settled_at")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Makes the transaction see one moment.
///
/// # Errors
/// The database's.
pub async fn snapshot(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("set transaction isolation level repeatable read read only").execute(&mut *connection).await?;
    // An audit reads everything.
    sqlx::query("set local statement_timeout = '10min'").execute(connection).await?;
    Ok(())
}

/// Every committed settlement whose counters are known: handle and amounts.
pub fn commits(connection: &mut PgConnection) -> impl Stream<Item = Result<(Vec<u8>, ByUnit), Error>> + Send {
    sqlx::query(
        "select handle, amounts from quota.settlements where not released and not taken_over and length(handle) > 0",
    )
    .fetch(connection)
    .map_err(Error::from)
    .and_then(async |row| Ok((row.try_get("handle")?, row.try_get::<Json<ByUnit>, _>("amounts")?.0)))
}

/// Deletes some of the settlements that are older than `keep`; answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_expired(pool: &PgPool, keep: Duration, most: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from quota.settlements where ctid = any(array(
             select ctid from quota.settlements
             where settled_at < now() - make_interval(secs => $1::double precision) order by settled_at limit $2))",
    )
    .bind(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX))
    .bind(most)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
