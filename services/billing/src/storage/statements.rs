//! Sums for statements.

use sqlx::{PgConnection, Row as _};
use weir_types::{NanoUsd, OrganizationId};

use super::Result;
use crate::domain::statement::{Line, Period};

/// Of one instant: an organisation's rated usage of a period by provider and model, how many of its events can't be priced, and
/// up to where the feed is rated.
#[derive(Debug)]
pub(crate) struct Books {
    /// By provider, model, and whose key it was.
    pub(crate) lines: Vec<Line>,
    /// Events of the period that can't be priced.
    pub(crate) unpriced: i64,
    /// The feed's position up to which everything was read.
    pub(crate) position: i64,
}

/// Reads the books. The transaction has to be a repeatable read, so that all parts are of one instant.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn books(
    connection: &mut PgConnection,
    organization: OrganizationId,
    period: Period,
) -> Result<Books> {
    let rows = sqlx::query(
        "select provider, model, own_key, sum(requests)::bigint as requests, sum(input_tokens)::bigint as input_tokens,
             sum(cached_input_tokens)::bigint as cached_input_tokens, sum(output_tokens)::bigint as output_tokens,
             sum(amount_nano_usd)::bigint as amount, count(*) filter (where estimated) as estimated_requests
         from billing.rated_events where organization_id = $1 and event_time >= $2 and event_time < $3
         group by provider, model, own_key order by provider, model, own_key",
    )
    .bind(organization.as_uuid())
    .bind(period.start)
    .bind(period.end)
    .fetch_all(&mut *connection)
    .await?;
    let lines: Result<Vec<Line>> = rows
        .iter()
        .map(|row| {
            Ok(Line {
                provider: row.try_get("provider")?,
                model: row.try_get("model")?,
                own_key: row.try_get("own_key")?,
                requests: row.try_get("requests")?,
                input_tokens: row.try_get("input_tokens")?,
                cached_input_tokens: row.try_get("cached_input_tokens")?,
                output_tokens: row.try_get("output_tokens")?,
                amount: NanoUsd(row.try_get("amount")?),
                estimated_requests: row.try_get("estimated_requests")?,
            })
        })
        .collect();
    let unpriced: i64 = sqlx::query_scalar(
        "select count(*) from billing.unrated_events where organization_id = $1 and event_time >= $2 and event_time < $3",
    )
    .bind(organization.as_uuid())
    .bind(period.start)
    .bind(period.end)
    .fetch_one(&mut *connection)
    .await?;
    Ok(Books { lines: lines?, unpriced, position: super::cursor::position(connection).await? })
}
