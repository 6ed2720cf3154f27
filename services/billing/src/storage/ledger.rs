//! The ledger.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use weir_types::{NanoUsd, OrganizationId};

use super::Result;
use crate::domain::ledger::{Entry, Posting};

/// Posts transactions. The database refuses one whose key was posted before.
///
/// # Errors
/// When the database doesn't answer, or refuses.
pub(crate) async fn post(connection: &mut PgConnection, postings: &[Posting], now: DateTime<Utc>) -> Result<()> {
    if postings.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into billing.ledger_transactions (transaction_id, organization_id, idempotency_key, description, create_time)
         select *, $5 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])",
    )
    .bind(postings.iter().map(|posting| posting.transaction_id).collect::<Vec<_>>())
    .bind(postings.iter().map(|posting| *posting.organization.as_uuid()).collect::<Vec<_>>())
    .bind(postings.iter().map(|posting| posting.idempotency_key.as_str()).collect::<Vec<_>>())
    .bind(postings.iter().map(|posting| posting.description.as_str()).collect::<Vec<_>>())
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let sides = || postings.iter().flat_map(|posting| posting.sides().map(|side| (posting, side)));
    sqlx::query(
        "insert into billing.ledger_entries (transaction_id, organization_id, account, amount_nano_usd)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])",
    )
    .bind(sides().map(|(posting, _)| posting.transaction_id).collect::<Vec<_>>())
    .bind(sides().map(|(posting, _)| *posting.organization.as_uuid()).collect::<Vec<_>>())
    .bind(sides().map(|(_, (account, _))| account).collect::<Vec<_>>())
    .bind(sides().map(|(_, (_, amount))| amount).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The entries of an organisation, newest first, before the entry `before` if it is given.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn entries(
    connection: &mut PgConnection,
    organization: OrganizationId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query(
        "select e.entry_id, e.transaction_id, e.account, e.amount_nano_usd, t.description, t.create_time
         from billing.ledger_entries e join billing.ledger_transactions t using (transaction_id)
         where e.organization_id = $1 and ($2::bigint is null or e.entry_id < $2)
         order by e.entry_id desc limit $3",
    )
    .bind(organization.as_uuid())
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Entry {
                entry_id: row.try_get("entry_id")?,
                transaction_id: row.try_get::<Uuid, _>("transaction_id")?,
                account: row.try_get("account")?,
                amount: NanoUsd(row.try_get("amount_nano_usd")?),
                description: row.try_get("description")?,
                create_time: row.try_get("create_time")?,
            })
        })
        .collect()
}
