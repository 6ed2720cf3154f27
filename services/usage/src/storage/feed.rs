//! The head of the feed: the newest position.

use super::{Error, Unit};

/// What [`advance`] does.
pub(super) const ADVANCE: &str = "update usage.feed set head = head + $1 returning head";

/// Moves the head on by `by`, answers it, and holds its row until the transaction ends: no other transaction gets
/// positions before this one's are visible or gone.
///
/// # Errors
/// When the database fails.
pub async fn advance(unit: &Unit, by: i64) -> Result<i64, Error> {
    let statement = unit.prepare_cached(ADVANCE).await?;
    Ok(unit.query_one(&statement, &[&by]).await?.try_get(0)?)
}

/// The newest durable position.
///
/// # Errors
/// When the database fails.
pub async fn head(unit: &Unit) -> Result<i64, Error> {
    let statement = unit.prepare_cached("select head from usage.feed").await?;
    Ok(unit.query_one(&statement, &[]).await?.try_get(0)?)
}
