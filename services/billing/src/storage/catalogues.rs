//! Which catalogue of plans is in force, and since which change of entitlements.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Result;

/// The newest catalogue: its generation and its content.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn newest(connection: &mut PgConnection) -> Result<Option<(i64, String)>> {
    Ok(sqlx::query_as("select generation, content from billing.catalogues order by generation desc limit 1")
        .fetch_optional(connection)
        .await?)
}

/// A catalogue comes into force with the change `generation`.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    generation: i64,
    content: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query("insert into billing.catalogues (generation, content, start_time) values ($1, $2, $3)")
        .bind(generation)
        .bind(content)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a catalogue came into force after the change `after`.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn changed(connection: &mut PgConnection, after: i64) -> Result<bool> {
    Ok(sqlx::query_scalar("select exists (select from billing.catalogues where generation > $1)")
        .bind(after)
        .fetch_one(connection)
        .await?)
}
