//! The events.

use std::pin::pin;

use futures::SinkExt as _;
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

/// Writes rows by COPY.
///
/// # Errors
/// `Conflict` on [`RECORDED_ONCE`] when one of the ids is known: the transaction has failed then.
pub async fn insert(unit: &Unit, table: Table, rows: CopyRows) -> Result<(), Error> {
    if rows.rows() == 0 {
        return Ok(());
    }
    let table = match table {
        Table::Events => "usage.events",
        Table::Originals => "usage.event_originals",
    };
    let statement = unit.prepare_cached(&format!("copy {table} ({COLUMNS}) from stdin binary")).await?;
    let mut sink = pin!(unit.copy_in(&statement).await?);
    let expected = rows.rows();
    let sent = async {
        sink.send(rows.finish()).await?;
        sink.as_mut().finish().await
    };
    let written = sent.await?;
    if written == expected { Ok(()) } else { Err(Error::Internal(format!("COPY wrote {written} of {expected} rows"))) }
}

/// What the books hold for the ids of `entries`.
///
/// # Errors
/// When the database fails.
pub async fn find(unit: &Unit, entries: &[&Entry]) -> Result<Vec<Recorded>, Error> {
    let statement = unit
        .prepare_cached(&format!(
            "select {COLUMNS} from usage.events where (organization_id, event_id, source) in \
             (select * from unnest($1::uuid[], $2::uuid[], $3::text[]))"
        ))
        .await?;
    let (organizations, ids, sources) = keys(entries.iter().map(|entry| &entry.event));
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
            "with gone as (delete from usage.events where (organization_id, event_id, source) in \
             (select * from unnest($1::uuid[], $2::uuid[], $3::text[])) returning {COLUMNS}) \
             insert into usage.event_originals ({COLUMNS}) select {COLUMNS} from gone"
        ))
        .await?;
    let (organizations, ids, sources) = keys(superseded.iter().map(|s| &s.old.event));
    let moved = unit.execute(&statement, &[&organizations, &ids, &sources]).await?;
    if moved == superseded.len() as u64 {
        Ok(())
    } else {
        Err(Error::Internal(format!("{moved} of {} superseded rows were there", superseded.len())))
    }
}

fn keys<'a>(events: impl Iterator<Item = &'a Event>) -> (Vec<Uuid>, Vec<Uuid>, Vec<&'a str>) {
    let (mut organizations, mut ids, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        organizations.push(*event.organization.as_uuid());
        ids.push(*event.id.as_uuid());
        sources.push(event.source.as_str());
    }
    (organizations, ids, sources)
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
    let by_user = if user.is_some() { "and user_id = $2" } else { "and $2::uuid is null" };
    // The maximum stands for "from the start", so that every page has the same plan.
    let (id, source) = before.map_or((Uuid::max(), ""), |place| (*place.id.as_uuid(), place.source.as_str()));
    let statement = unit
        .prepare_cached(&format!(
            "select {COLUMNS} from usage.events where organization_id = $1 {by_user} \
             and (event_id, source) < ($3, $4) order by event_id desc, source desc limit $5"
        ))
        .await?;
    let user: Option<Uuid> = user.map(Into::into);
    let rows = unit.query(&statement, &[organization.as_uuid(), &user, &id, &source, &limit]).await?;
    rows.iter().map(|row| Ok(recorded(row)?.event)).collect()
}

/// About `limit` events (only of `organization`, if given) with ids after `after`, in the order of ids. All that share
/// the last id are among them, so that the next scan may begin after it.
///
/// # Errors
/// When the database fails.
pub async fn scan(
    unit: &Unit,
    organization: Option<OrganizationId>,
    after: ReservationId,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let by_organization = if organization.is_some() { "organization_id = $1" } else { "$1::uuid is null" };
    let statement = unit
        .prepare_cached(&format!(
            "select {COLUMNS} from usage.events where {by_organization} and event_id > $2 \
             order by event_id fetch first $3 rows with ties"
        ))
        .await?;
    let organization: Option<Uuid> = organization.map(Into::into);
    let rows = unit.query(&statement, &[&organization, after.as_uuid(), &limit]).await?;
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
