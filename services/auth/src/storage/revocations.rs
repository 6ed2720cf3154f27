//! `auth.revocations`: written with what they revoke, read in the order of commits by every replica's feed.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Error;

use super::unreadable;
use crate::domain::{Revocation, Subject};

/// Where a notification says that there is a new row.
pub(crate) const CHANNEL: &str = "weir_auth_revocations";

/// "weirrevo" in ASCII: any number that nobody else uses in this database.
const ORDER_LOCK: i64 = 0x7765_6972_7265_766f;

/// Stores one and tells the feeds of all replicas when the transaction commits.
///
/// Call it last in its transaction: from here to the commit it holds the lock that makes sequence numbers visible in
/// their order, without which a reader that goes by the highest number seen would miss one that commits late.
pub(crate) async fn insert(tx: &mut PgConnection, revocation: &Revocation) -> Result<(), Error> {
    let (kind, id) = match revocation.subject {
        Subject::ApiKey(id) => ("api_key", Uuid::from(id)),
        Subject::User(id) => ("user", Uuid::from(id)),
    };
    sqlx::query("select pg_advisory_xact_lock($1)").bind(ORDER_LOCK).execute(&mut *tx).await?;
    sqlx::query(
        "insert into auth.revocations (organization_id, subject_kind, subject_id, effective_at, ahead, matters_until)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(revocation.organization.as_uuid())
    .bind(kind)
    .bind(id)
    .bind(revocation.effective)
    .bind(revocation.ahead)
    .bind(revocation.matters_until)
    .execute(&mut *tx)
    .await?;
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(tx).await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    sequence: i64,
    organization_id: Uuid,
    subject_kind: String,
    subject_id: Uuid,
    effective_at: DateTime<Utc>,
    ahead: bool,
    matters_until: DateTime<Utc>,
}

/// Those after `sequence` that still matter at `now`, with their numbers, in order.
pub(crate) async fn after(
    connection: &mut PgConnection,
    sequence: i64,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, Revocation)>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select sequence, organization_id, subject_kind, subject_id, effective_at, ahead, matters_until
         from auth.revocations where sequence > $1 and matters_until > $2 order by sequence",
    )
    .bind(sequence)
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let subject = match row.subject_kind.as_str() {
                "api_key" => Subject::ApiKey(row.subject_id.into()),
                "user" => Subject::User(row.subject_id.into()),
                _ => return Err(unreadable("a revocation's subject")),
            };
            let revocation = Revocation {
                organization: row.organization_id.into(),
                subject,
                effective: row.effective_at,
                ahead: row.ahead,
                matters_until: row.matters_until,
            };
            Ok((row.sequence, revocation))
        })
        .collect()
}

/// Deletes those that don't matter any more.
pub(crate) async fn delete_ended(tx: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, Error> {
    Ok(sqlx::query("delete from auth.revocations where matters_until <= $1")
        .bind(now)
        .execute(tx)
        .await?
        .rows_affected())
}
