//! Events that can't be priced.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Result;
use crate::domain::rating::{RatedEvent, Unrated};
use crate::domain::usage::{Change, Usage};

/// Keeps changes that can't be priced; of the same event the later revision.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn put(connection: &mut PgConnection, unrated: &[Unrated], now: DateTime<Utc>) -> Result<()> {
    for change in unrated {
        sqlx::query(
            "insert into billing.unrated_events
                 (event_id, organization_id, revision, position, event_time, reason, usage, create_time)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (event_id) do update set
                 organization_id = excluded.organization_id, revision = excluded.revision, position = excluded.position,
                 event_time = excluded.event_time, reason = excluded.reason, usage = excluded.usage
             where excluded.revision >= unrated_events.revision",
        )
        .bind(&change.event_id)
        .bind(change.usage.as_ref().map(|usage| Uuid::from(usage.organization)))
        .bind(change.revision)
        .bind(change.position)
        .bind(change.usage.as_ref().map(|usage| usage.event_time))
        .bind(&change.reason)
        .bind(change.usage.as_ref().map(Json))
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Forgets those of which `rated` has the same or a later revision.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn settle(connection: &mut PgConnection, rated: &[RatedEvent]) -> Result<()> {
    sqlx::query(
        "delete from billing.unrated_events u using unnest($1::text[], $2::integer[]) r (event_id, revision)
         where u.event_id = r.event_id and u.revision <= r.revision",
    )
    .bind(rated.iter().map(|event| event.usage.event_id.to_string()).collect::<Vec<_>>())
    .bind(rated.iter().map(|event| event.revision).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets those that are in the books in the same or a later revision.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn drop_outdated(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "delete from billing.unrated_events u using billing.rated_events r
         where r.event_id = (u.usage ->> 'event_id')::uuid and u.revision <= r.revision",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The next readable ones after the position `after`, in the order of the feed.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn readable(connection: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<Change>> {
    let rows = sqlx::query(
        "select event_id, revision, position, usage from billing.unrated_events
         where usage is not null and position > $1 order by position limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let usage: Json<Usage> = row.try_get("usage")?;
            Ok(Change {
                position: row.try_get("position")?,
                revision: row.try_get("revision")?,
                event_id: row.try_get("event_id")?,
                usage: Ok(usage.0),
            })
        })
        .collect()
}

/// How many there are.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn count(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from billing.unrated_events").fetch_one(connection).await?)
}
