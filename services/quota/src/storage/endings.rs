//! How reservations ended, for those who must explain it.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ReservationId};

use super::settlements::ByUnit;

/// How a reservation ended, with all that is known of it.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Which.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// Whether nothing was used.
    pub released: bool,
    /// Whether the amounts are assumed.
    pub estimated: bool,
    /// Whether its lease had ended.
    pub late: bool,
    /// What was used.
    pub amounts: ByUnit,
    /// What an estimate had said that the amounts have replaced.
    pub replaced: Option<ByUnit>,
    /// What settled it; empty if nobody knew.
    pub handle: Vec<u8>,
    /// When.
    pub at: DateTime<Utc>,
}

const COLUMNS: &str =
    "select reservation_id, organization_id, released, estimated, late, amounts, replaced, handle, settled_at
     from quota.settlements";

/// The last reservations of an organisation that ended and whose handle has all of these fields, newest first, among its last
/// `among`. That the bytes occur in a handle does not yet mean that they are its subject's.
///
/// # Errors
/// The database's.
pub async fn recent(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    fields: &[Vec<u8>],
    among: i64,
    most: i64,
) -> Result<Vec<Ending>, Error> {
    let text = format!(
        "select * from ({COLUMNS} where organization_id = $1 and not taken_over order by reservation_id desc limit $3) recent
         where not exists (select from unnest($2::bytea[]) field where position(field in handle) = 0) limit $4"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(organization.as_uuid()).bind(fields).bind(among).bind(most);
    query.fetch_all(connection).await?.iter().map(read).collect()
}

/// How a reservation ended; of any organisation if none is given.
///
/// # Errors
/// The database's.
pub async fn of(
    connection: &mut PgConnection,
    organization: Option<&OrganizationId>,
    id: &ReservationId,
) -> Result<Option<Ending>, Error> {
    let text = format!(
        "{COLUMNS} where reservation_id = $1 and not taken_over and ($2::uuid is null or organization_id = $2)"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id.as_uuid())
        .bind(organization.map(|organization| *organization.as_uuid()));
    query.fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// Notes that the leases of these had ended before they were settled.
///
/// # Errors
/// The database's.
pub async fn note_late(pool: &PgPool, ids: &[ReservationId]) -> Result<(), Error> {
    sqlx::query("update quota.settlements set late = true where reservation_id = any($1) and not late")
        .bind(ids.iter().map(|id| *id.as_uuid()).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}

fn read(row: &sqlx::postgres::PgRow) -> Result<Ending, Error> {
    Ok(Ending {
        id: row.try_get::<Uuid, _>("reservation_id")?.into(),
        organization: row.try_get::<Uuid, _>("organization_id")?.into(),
        released: row.try_get("released")?,
        estimated: row.try_get("estimated")?,
        late: row.try_get("late")?,
        amounts: row.try_get::<Json<ByUnit>, _>("amounts")?.0,
        replaced: row.try_get::<Option<Json<ByUnit>>, _>("replaced")?.map(|json| json.0),
        handle: row.try_get("handle")?,
        at: row.try_get("settled_at")?,
    })
}
