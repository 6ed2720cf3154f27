//! The numbers of limits.

use sqlx::{PgPool, Row as _};
use weir_database::Error;

use crate::domain::{CounterKey, LimitId, Scope, Unit};

/// The numbers of these, in their order; new ones get one.
///
/// # Errors
/// The database's.
pub async fn intern(pool: &PgPool, keys: &[CounterKey]) -> Result<Vec<LimitId>, Error> {
    let column = |pick: fn(&CounterKey) -> String| keys.iter().map(pick).collect::<Vec<_>>();
    let (names, scopes) = (column(|key| key.name.clone()), column(|key| key.scope.as_str().to_owned()));
    let (units, kinds) = (column(|key| key.unit.to_string()), column(|key| key.kind.to_string()));
    // Looked up first: an insert that conflicts would still use up a number, and new limits are rare.
    for insert in [false, true] {
        if insert {
            sqlx::query(
                "insert into quota.limits (name, scope, unit, kind)
                 select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 on conflict do nothing",
            )
            .bind(&names)
            .bind(&scopes)
            .bind(&units)
            .bind(&kinds)
            .execute(pool)
            .await?;
        }
        let ids: Vec<Option<i32>> = sqlx::query_scalar(
            "select l.id
             from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality k (name, scope, unit, kind, n)
             left join quota.limits l using (name, scope, unit, kind)
             order by n",
        )
        .bind(&names)
        .bind(&scopes)
        .bind(&units)
        .bind(&kinds)
        .fetch_all(pool)
        .await?;
        let ids: Option<Vec<LimitId>> = ids.into_iter().map(|id| LimitId::try_from(id?).ok()).collect();
        if let Some(ids) = ids {
            return Ok(ids);
        }
    }
    Err(Error::NotFound)
}

/// What numbers stand for; those that nobody has are missing.
///
/// # Errors
/// The database's.
pub async fn find(pool: &PgPool, ids: &[LimitId]) -> Result<Vec<(LimitId, CounterKey)>, Error> {
    let ids: Vec<i32> = ids.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
    let rows = sqlx::query("select id, name, scope, unit, kind from quota.limits where id = any($1)")
        .bind(&ids)
        .fetch_all(pool)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, kind): (i32, String) = (row.try_get("id")?, row.try_get("kind")?);
        let (scope, unit): (String, String) = (row.try_get("scope")?, row.try_get("unit")?);
        let kind =
            kind.parse().map_err(|error: crate::domain::limit::UnknownKind| Error::Internal(error.to_string()))?;
        let key =
            CounterKey { name: row.try_get("name")?, scope: Scope::parse(&scope), unit: Unit::parse(&unit), kind };
        if let Ok(id) = LimitId::try_from(id) {
            found.push((id, key));
        }
    }
    Ok(found)
}
