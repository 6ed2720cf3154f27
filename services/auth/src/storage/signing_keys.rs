//! `auth.signing_keys`: at most one `next`, at most one `current` (both by constraint), any number `retired`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weir_database::Error;

/// "weirsign" in ASCII: any number that nobody else uses in this database.
const CHANGE_LOCK: i64 = 0x7765_6972_7369_676e;

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Published, so that verifiers know it before the first token.
    Next,
    /// Signs.
    Current,
    /// Signs no more; verifies until its last token has ended.
    Retired,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retired => "retired",
        }
    }
}

/// A key as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredKey {
    /// The `kid`.
    pub(crate) id: String,
    /// 32 bytes.
    pub(crate) public_key: Vec<u8>,
    /// The encrypted seed.
    pub(crate) sealed_seed: Vec<u8>,
    state: String,
    /// When it became current.
    pub(crate) activated_at: Option<DateTime<Utc>>,
}

impl StoredKey {
    /// Whether it is in `state`.
    #[must_use]
    pub(crate) fn is(&self, state: State) -> bool {
        self.state == state.as_str()
    }
}

/// Keeps other replicas from changing the set until the transaction ends.
pub(crate) async fn lock(tx: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(CHANGE_LOCK).execute(tx).await?;
    Ok(())
}

/// Every key that verifiers need at `now`: current first, then next, then retired ones, youngest first.
pub(crate) async fn published(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Vec<StoredKey>, Error> {
    Ok(sqlx::query_as(
        "select id, public_key, sealed_seed, state, activated_at from auth.signing_keys
         where state <> 'retired' or verify_until > $1
         order by array_position(array['current', 'next', 'retired'], state), created_at desc",
    )
    .bind(now)
    .fetch_all(connection)
    .await?)
}

/// Stores a new key as next, or as current if `activated`.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    (id, public_key): (&str, &[u8; 32]),
    sealed_seed: &[u8],
    created: DateTime<Utc>,
    activated: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let state = if activated.is_some() { State::Current } else { State::Next };
    sqlx::query(
        "insert into auth.signing_keys (id, public_key, sealed_seed, state, created_at, activated_at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(public_key.as_slice())
    .bind(sealed_seed)
    .bind(state.as_str())
    .bind(created)
    .bind(activated)
    .execute(tx)
    .await?;
    Ok(())
}

/// The current key signs no more; its tokens verify until `verify_until`.
pub(crate) async fn retire_current(tx: &mut PgConnection, verify_until: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("update auth.signing_keys set state = $2, verify_until = $1 where state = 'current'")
        .bind(verify_until)
        .bind(State::Retired.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// The next key signs from now on.
pub(crate) async fn activate_next(tx: &mut PgConnection, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("update auth.signing_keys set state = 'current', activated_at = $1 where state = 'next'")
        .bind(now)
        .execute(tx)
        .await?;
    Ok(())
}

/// Deletes retired keys whose last token has ended.
pub(crate) async fn delete_ended(tx: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, Error> {
    let deleted = sqlx::query("delete from auth.signing_keys where verify_until <= $1").bind(now).execute(tx).await?;
    Ok(deleted.rows_affected())
}
