//! Sums over everything, for audits.

use sqlx::{PgConnection, Row as _};
use weir_types::NanoUsd;

use super::Result;
use crate::domain::ledger::RECEIVABLE;

/// What the books sum up to, all of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    /// The feed's position up to which everything was read.
    pub(crate) rated_position: i64,
    /// Over all ledger entries; has to be 0.
    pub(crate) ledger: NanoUsd,
    /// Over the receivable accounts.
    pub(crate) receivable: NanoUsd,
    /// Over the rated events.
    pub(crate) rated: NanoUsd,
    /// Events whose own price differs from the price book's.
    pub(crate) price_mismatches: i64,
    /// Events that can't be priced.
    pub(crate) unrated_events: i64,
}

/// Adds the books up.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn sums(connection: &mut PgConnection) -> Result<Sums> {
    let row = sqlx::query(
        "select (select position from billing.rating_cursor where feed = 'usage') as rated_position,
             (select coalesce(sum(amount_nano_usd), 0)::bigint from billing.ledger_entries) as ledger,
             (select coalesce(sum(amount_nano_usd), 0)::bigint from billing.ledger_entries where account = $1) as receivable,
             (select coalesce(sum(amount_nano_usd), 0)::bigint from billing.rated_events) as rated,
             (select count(*) from billing.price_mismatches) as price_mismatches,
             (select count(*) from billing.unrated_events) as unrated_events",
    )
    .bind(RECEIVABLE)
    .fetch_one(connection)
    .await?;
    Ok(Sums {
        rated_position: row.try_get("rated_position")?,
        ledger: NanoUsd(row.try_get("ledger")?),
        receivable: NanoUsd(row.try_get("receivable")?),
        rated: NanoUsd(row.try_get("rated")?),
        price_mismatches: row.try_get("price_mismatches")?,
        unrated_events: row.try_get("unrated_events")?,
    })
}
