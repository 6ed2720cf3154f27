//! `broker.webhook_deliveries`.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;
use weir_types::OrganizationId;

use super::JobKey;
use super::claim::millis;
use super::transition::NewDelivery;

/// A webhook that this broker sends now.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Delivery {
    organization_id: Uuid,
    pub(crate) delivery_id: Uuid,
    /// With this one; whoever writes must name it.
    pub(crate) attempts: i16,
    pub(crate) url: String,
    pub(crate) payload: Vec<u8>,
}

impl Delivery {
    /// Whose it is.
    pub(crate) fn organization(&self) -> OrganizationId {
        self.organization_id.into()
    }
}

/// Takes those that are due; nobody else sends them before `lease` has passed.
pub(crate) async fn claim(tx: &mut PgConnection, most: usize, lease: Duration) -> Result<Vec<Delivery>, Error> {
    let claimed = sqlx::query_as(
        "update broker.webhook_deliveries w set attempts = w.attempts + 1, due_at = now() + $2 * interval '1 ms'
         from (select organization_id, delivery_id from broker.webhook_deliveries where state = 0 and due_at <= now()
               order by due_at limit $1 for update skip locked) as due
         where w.organization_id = due.organization_id and w.delivery_id = due.delivery_id
         returning w.organization_id, w.delivery_id, w.attempts, w.url, w.payload",
    )
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .bind(millis(lease))
    .fetch_all(tx)
    .await?;
    Ok(claimed)
}

/// What came of sending one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    Received,
    /// Again in so long.
    Again(Duration),
    GivenUp,
}

/// Writes it, unless somebody else has sent it since.
pub(crate) async fn ended(tx: &mut PgConnection, delivery: &Delivery, sent: Sent, message: &str) -> Result<(), Error> {
    let (state, wait) = match sent {
        Sent::Again(wait) => (0_i16, millis(wait)),
        Sent::Received => (1, 0),
        Sent::GivenUp => (2, 0),
    };
    sqlx::query(
        "update broker.webhook_deliveries
         set state = $4, due_at = now() + $5 * interval '1 ms', message = $6,
             ended_at = case when $4::smallint > 0 then now() end
         where organization_id = $1 and delivery_id = $2 and attempts = $3 and state = 0",
    )
    .bind(delivery.organization_id)
    .bind(delivery.delivery_id)
    .bind(delivery.attempts)
    .bind(state)
    .bind(wait)
    .bind(message)
    .execute(tx)
    .await?;
    Ok(())
}

/// One more to be sent, inside the tenant's transaction.
pub(crate) async fn insert(tx: &mut PgConnection, key: JobKey, new: &NewDelivery) -> Result<(), Error> {
    sqlx::query(
        "insert into broker.webhook_deliveries (organization_id, delivery_id, job_id, url, payload)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(key.organization.as_uuid())
    .bind(new.id)
    .bind(key.job)
    .bind(&new.url)
    .bind(&new.payload)
    .execute(tx)
    .await?;
    Ok(())
}
