//! Subscriptions, and the clock that numbers changes of entitlements.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use weir_types::OrganizationId;

use super::Result;
use crate::domain::entitlements::Subscription;
use crate::domain::limit::Limit;

/// The channel on which replicas tell each other that entitlements changed.
pub(crate) const CHANNEL: &str = "weir_billing_entitlements";

/// The subscription of an organisation that was put on a plan.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn get(connection: &mut PgConnection, organization: OrganizationId) -> Result<Option<Subscription>> {
    let row = sqlx::query(
        "select plan, start_time, overrides, version from billing.subscriptions where organization_id = $1",
    )
    .bind(organization.as_uuid())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let overrides: Json<Vec<Limit>> = row.try_get("overrides")?;
    Ok(Some(Subscription {
        organization,
        plan: row.try_get("plan")?,
        start: row.try_get("start_time")?,
        overrides: overrides.0,
        version: row.try_get("version")?,
    }))
}

/// Stores a subscription, new or changed.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn put(connection: &mut PgConnection, subscription: &Subscription, now: DateTime<Utc>) -> Result<()> {
    sqlx::query(
        "insert into billing.subscriptions (organization_id, plan, start_time, overrides, version, update_time)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (organization_id) do update set plan = excluded.plan, start_time = excluded.start_time,
             overrides = excluded.overrides, version = excluded.version, update_time = excluded.update_time",
    )
    .bind(subscription.organization.as_uuid())
    .bind(&subscription.plan)
    .bind(subscription.start)
    .bind(Json(&subscription.overrides))
    .bind(subscription.version)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the clock until the transaction ends and answers the last change's number.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn lock_clock(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select version from billing.entitlement_clock for update").fetch_one(connection).await?)
}

/// Numbers a change, and tells all replicas when it commits.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn tick(connection: &mut PgConnection) -> Result<i64> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *connection).await?;
    Ok(sqlx::query_scalar("update billing.entitlement_clock set version = version + 1 returning version")
        .fetch_one(connection)
        .await?)
}

/// The number of the last change that is committed.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn clock(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select version from billing.entitlement_clock").fetch_one(connection).await?)
}

/// The organisations whose subscriptions changed after the change `after`, in order, at most `limit`.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn changed(
    connection: &mut PgConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<(OrganizationId, i64)>> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select organization_id, version from billing.subscriptions where version > $1 order by version limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(organization, version)| (organization.into(), version)).collect())
}

/// The plans that organisations are on, and how many are on each.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn plans_in_use(connection: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    Ok(sqlx::query_as("select plan, count(*) from billing.subscriptions group by plan order by plan")
        .fetch_all(connection)
        .await?)
}
