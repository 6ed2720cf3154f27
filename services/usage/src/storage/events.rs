//! The events.

use std::pin::pin;

use futures::SinkExt as _;
use futures::future::try_join_all;
use tokio_postgres::Row;
use uuid::Uuid;
use weir_types::{OrganizationId, ReservationId, UserId};

use super::rows::{COLUMNS, CopyRows, position, recorded};
use super::{Error, Unit};
use crate::domain::{Entry, Event, Recorded, Supersession};

/// The constraint that an event whose id is known violates.
pub const RECORDED_ONCE: &str = "events_recorded_once";

/// Where [`insert`] writes.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    /// The events as they stand.
    Events,
    /// Estimates that were superseded.
    Originals,
}

/// A row to write.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// The event.
    pub entry: &'a Entry,
    /// Its place in the feed.
    pub position: i64,
    /// Its revision.
    pub revision: i32,
}

/// Writes rows by COPY. `meanwhile` is called when all rows are on their way, while the server works on them.
///
/// # Errors
/// `Conflict` on [`RECORDED_ONCE`] when one of the ids is known: the transaction has failed then.
pub async fn insert<T>(
    unit: &Unit,
    table: Table,
    rows: &[NewRow<'_>],
    meanwhile: impl FnOnce() -> T,
) -> Result<T, Error> {
    if rows.is_empty() {
        return Ok(meanwhile());
    }
    let table = match table {
        Table::Events => "usage.events",
        Table::Originals => "usage.event_originals",
    };
    let statement = unit.prepare_cached(&format!("copy {table} ({COLUMNS}) from stdin binary")).await?;
    let mut sink = pin!(unit.copy_in(&statement).await?);
    let mut data = CopyRows::begin();
    for row in rows {
        data.push(row.entry, row.position, row.revision);
        if let Some(part) = data.part() {
            sink.feed(part).await?;
        }
    }
    sink.feed(data.finish()).await?;
    let result = meanwhile();
    let written = sink.as_mut().finish().await?;
    if written == rows.len() as u64 {
        Ok(result)
    } else {
        Err(Error::Internal(format!("COPY wrote {written} of {} rows", rows.len())))
    }
}

/// What the books hold for the ids of `entries`.
///
/// # Errors
/// When the database fails.
pub async fn find(unit: &Unit, entries: &[&Entry]) -> Result<Vec<Recorded>, Error> {
    // LIMIT keeps it a loop of look-ups by the key, whatever the planner believes about the table's size.
    let statement = unit
        .prepare_cached(&format!(
            "select found.* from unnest($1::uuid[], $2::uuid[], $3::text[]) as key(organization, id, origin) \
             cross join lateral (select {COLUMNS} from usage.events where organization_id = organization \
             and event_id = id and source = origin limit 1) as found"
        ))
        .await?;
    let organizations: Vec<&Uuid> = entries.iter().map(|entry| entry.event.organization.as_uuid()).collect();
    let ids: Vec<&Uuid> = entries.iter().map(|entry| entry.event.id.as_uuid()).collect();
    let sources: Vec<&str> = entries.iter().map(|entry| entry.event.source.as_str()).collect();
    let rows = unit.query(&statement, &[&organizations, &ids, &sources]).await?;
    rows.iter().map(|row| Ok(recorded(row)?)).collect()
}

/// Moves the rows that `superseded` names to the originals.
///
/// # Errors
/// When the database fails.
pub async fn retire(unit: &Unit, superseded: &[Supersession<'_>]) -> Result<(), Error> {
    if superseded.is_empty() {
        return Ok(());
    }
    let statement = unit
        .prepare_cached(&format!(
            "with gone as (delete from usage.events where organization_id = $1 and event_id = $2 and source = $3 \
             returning {COLUMNS}) insert into usage.event_originals ({COLUMNS}) select * from gone"
        ))
        .await?;
    let retirements = superseded.iter().map(async |Supersession { old, .. }| {
        let event = &old.event;
        unit.execute(&statement, &[event.organization.as_uuid(), event.id.as_uuid(), &event.source]).await
    });
    // All are on their way before the first is answered.
    let moved: u64 = try_join_all(retirements).await?.into_iter().sum();
    if moved == superseded.len() as u64 {
        Ok(())
    } else {
        Err(Error::Internal(format!("{moved} of {} superseded rows were there", superseded.len())))
    }
}

/// A place in an organisation's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The event's id.
    pub id: ReservationId,
    /// The event's source: one id may stand for an event in each of several.
    pub source: String,
}

/// At most `limit` events of `organization` (only of `user`, if given), newest first, before `before`.
///
/// # Errors
/// When the database fails.
pub async fn list(
    unit: &Unit,
    organization: OrganizationId,
    user: Option<UserId>,
    before: Option<&Place>,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    // The maximum stands for "from the start", so that every page has the same plan.
    let (id, source) = before.map_or((Uuid::max(), ""), |place| (*place.id.as_uuid(), place.source.as_str()));
    const PAGE: &str = "organization_id = $1 and (event_id, source) < ($3, $4)";
    const NEWEST_FIRST: &str = "order by event_id desc, source desc";
    let sql = if user.is_some() {
        // First within the index, which has the user in it; only what is found is read.
        format!(
            "select {COLUMNS} from usage.events where organization_id = $1 and (event_id, source) in ( \
             select event_id, source from usage.events where {PAGE} and user_id = $2 {NEWEST_FIRST} limit $5) \
             {NEWEST_FIRST}"
        )
    } else {
        format!("select {COLUMNS} from usage.events where {PAGE} and $2::uuid is null {NEWEST_FIRST} limit $5")
    };
    let statement = unit.prepare_cached(&sql).await?;
    let user: Option<Uuid> = user.map(Into::into);
    let rows = unit.query(&statement, &[organization.as_uuid(), &user, &id, &source, &limit]).await?;
    rows.iter().map(|row| Ok(recorded(row)?.event)).collect()
}

/// About `limit` events of `organization` with ids after `after`, in the order of ids. All that share the last id are
/// among them, so that the next scan may begin after it.
///
/// # Errors
/// When the database fails.
pub async fn scan(
    unit: &Unit,
    organization: OrganizationId,
    after: ReservationId,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let statement = unit
        .prepare_cached(&format!(
            "select {COLUMNS} from usage.events where organization_id = $1 and event_id > $2 \
             order by event_id fetch first $3 rows with ties"
        ))
        .await?;
    let rows = unit.query(&statement, &[organization.as_uuid(), after.as_uuid(), &limit]).await?;
    rows.iter().map(|row| Ok(recorded(row)?.event)).collect()
}

/// Steps from tenant to tenant through the primary key. An index by id alone would answer for all tenants at once, and
/// would cost recording a tenth of its rate for what only audits ask.
const TENANTS: &str = "with recursive tenants as ( \
     (select organization_id as tenant from usage.events order by organization_id limit 1) union all \
     select (select organization_id from usage.events where organization_id > tenant \
       order by organization_id limit 1) from tenants where tenant is not null)";

/// The first id of any tenant's after `after`.
///
/// # Errors
/// When the database fails.
pub async fn next_id(unit: &Unit, after: ReservationId) -> Result<Option<ReservationId>, Error> {
    let statement = unit
        .prepare_cached(&format!(
            "{TENANTS} select event_id from tenants cross join lateral (select event_id from usage.events \
             where organization_id = tenant and event_id > $1 order by event_id limit 1) as first \
             order by event_id limit 1"
        ))
        .await?;
    let row = unit.query_opt(&statement, &[after.as_uuid()]).await?;
    Ok(row.map(|row| row.try_get::<_, Uuid>(0)).transpose()?.map(Into::into))
}

/// As [`scan`], for all tenants together and ids up to `until`: the closer that is, the fewer rows are sorted.
///
/// # Errors
/// When the database fails.
pub async fn scan_all(
    unit: &Unit,
    after: ReservationId,
    until: ReservationId,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let statement = unit
        .prepare_cached(&format!(
            "{TENANTS} select found.* from tenants cross join lateral (select {COLUMNS} from usage.events \
             where organization_id = tenant and event_id > $1 and event_id <= $2 \
             order by event_id fetch first $3 rows with ties) as found \
             order by event_id fetch first $3 rows with ties"
        ))
        .await?;
    let rows = unit.query(&statement, &[after.as_uuid(), until.as_uuid(), &limit]).await?;
    rows.iter().map(|row| Ok(recorded(row)?.event)).collect()
}

/// An event at its place in the feed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The place.
    pub position: i64,
    /// The event as it now stands, and its revision.
    pub recorded: Recorded,
}

/// At most `limit` changes after the position `after`, in their order.
///
/// # Errors
/// When the database fails.
pub async fn changes(unit: &Unit, after: i64, limit: i64) -> Result<Vec<Change>, Error> {
    let statement = unit
        .prepare_cached(&format!("select {COLUMNS} from usage.events where position > $1 order by position limit $2"))
        .await?;
    let rows = unit.query(&statement, &[&after, &limit]).await?;
    let change = |row: &Row| Ok(Change { position: position(row)?, recorded: recorded(row)? });
    rows.iter().map(change).collect()
}
