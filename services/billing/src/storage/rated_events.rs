//! Rated events, in bulk.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use weir_types::{NanoUsd, OrganizationId};

use super::Result;
use crate::domain::rating::{AuditedEvent, Known, RatedEvent};

/// What the books say about these events.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn known(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Known>> {
    let rows: Vec<(Uuid, Uuid, i32, i64)> = sqlx::query_as(
        "select event_id, organization_id, revision, amount_nano_usd from billing.rated_events where event_id = any($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, organization, revision, amount)| {
            (id, Known { organization: organization.into(), revision, amount: NanoUsd(amount) })
        })
        .collect())
}

/// Stores events, new and changed ones. No two of them have the same id.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn put(connection: &mut PgConnection, events: &[RatedEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let each = |part: fn(&RatedEvent) -> i64| events.iter().map(part).collect::<Vec<i64>>();
    let text = |part: fn(&RatedEvent) -> &str| events.iter().map(part).collect::<Vec<&str>>();
    sqlx::query(
        "insert into billing.rated_events
             (event_id, organization_id, revision, position, event_time, provider, model, price_version,
              input_tokens, cached_input_tokens, output_tokens, amount_nano_usd, estimated, own_key, requests)
         select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::text[], $7::text[],
             $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::boolean[],
             $15::bigint[])
         on conflict (event_id) do update set
             organization_id = excluded.organization_id, revision = excluded.revision, position = excluded.position,
             event_time = excluded.event_time, provider = excluded.provider, model = excluded.model,
             price_version = excluded.price_version, input_tokens = excluded.input_tokens,
             cached_input_tokens = excluded.cached_input_tokens, output_tokens = excluded.output_tokens,
             amount_nano_usd = excluded.amount_nano_usd, estimated = excluded.estimated,
             own_key = excluded.own_key, requests = excluded.requests",
    )
    .bind(events.iter().map(|event| event.usage.event_id).collect::<Vec<Uuid>>())
    .bind(events.iter().map(|event| *event.usage.organization.as_uuid()).collect::<Vec<Uuid>>())
    .bind(events.iter().map(|event| event.revision).collect::<Vec<i32>>())
    .bind(each(|event| event.position))
    .bind(events.iter().map(|event| event.usage.event_time).collect::<Vec<DateTime<Utc>>>())
    .bind(text(|event| &event.usage.provider))
    .bind(text(|event| &event.usage.model))
    .bind(text(|event| &event.usage.price_version))
    .bind(each(|event| event.usage.input_tokens))
    .bind(each(|event| event.usage.cached_input_tokens))
    .bind(each(|event| event.usage.output_tokens))
    .bind(each(|event| event.amount.0))
    .bind(events.iter().map(|event| event.usage.estimated).collect::<Vec<bool>>())
    .bind(events.iter().map(|event| event.usage.own_key).collect::<Vec<bool>>())
    .bind(each(|event| event.usage.requests))
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the events whose own price differs, and forgets those of `superseded` that did before.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn put_mismatches<'a>(
    connection: &mut PgConnection,
    superseded: &[Uuid],
    mismatches: impl Iterator<Item = &'a RatedEvent>,
) -> Result<()> {
    if !superseded.is_empty() {
        sqlx::query("delete from billing.price_mismatches where event_id = any($1)")
            .bind(superseded)
            .execute(&mut *connection)
            .await?;
    }
    // There are none in a healthy deployment, so one statement each is enough.
    for event in mismatches {
        sqlx::query(
            "insert into billing.price_mismatches (event_id, organization_id, revision, claimed_nano_usd, rated_nano_usd)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(event.usage.event_id)
        .bind(event.usage.organization.as_uuid())
        .bind(event.revision)
        .bind(event.usage.claimed.0)
        .bind(event.amount.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The next rated events in the order of their ids, after `after`, of one organisation if it is given.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn scan(
    connection: &mut PgConnection,
    organization: Option<OrganizationId>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<AuditedEvent>> {
    let rows = sqlx::query(
        "select event_id, organization_id, revision, input_tokens, cached_input_tokens, output_tokens, amount_nano_usd,
             estimated, requests, event_time
         from billing.rated_events
         where ($1::uuid is null or event_id > $1) and ($2::uuid is null or organization_id = $2)
         order by event_id limit $3",
    )
    .bind(after)
    .bind(organization.map(Uuid::from))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(AuditedEvent {
                event_id: row.try_get("event_id")?,
                organization: row.try_get::<Uuid, _>("organization_id")?.into(),
                revision: row.try_get("revision")?,
                input_tokens: row.try_get("input_tokens")?,
                cached_input_tokens: row.try_get("cached_input_tokens")?,
                output_tokens: row.try_get("output_tokens")?,
                amount: NanoUsd(row.try_get("amount_nano_usd")?),
                estimated: row.try_get("estimated")?,
                requests: row.try_get("requests")?,
                event_time: row.try_get("event_time")?,
            })
        })
        .collect()
}
