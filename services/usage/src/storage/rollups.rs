//! Moving the hourly sums.

use futures::future::try_join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Error, Unit};
use crate::domain::{RollupKey, Sums};

const KEY: [&str; 7] = ["organization_id", "hour", "user_id", "api_key_id", "model", "provider", "operation"];
const SUMS: [&str; 6] =
    ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nano_usd", "estimated_requests"];
const MOVES: &str = "unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], \
     $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])";

/// Moves the sums by `moves`, which are in the order of their keys.
///
/// # Errors
/// When the database fails.
pub async fn apply(unit: &Unit, moves: &[(RollupKey<'_>, Sums)]) -> Result<(), Error> {
    // The table's constraint is checked on the row that an upsert proposes, before the row in its way is found. A
    // difference that is no sum by itself comes from a row that is there: it needs no upsert.
    let (sums, differences): (Vec<_>, Vec<_>) = moves.iter().copied().partition(|(_, sums)| sums.is_sum());
    try_join(add(unit, &sums), correct(unit, &differences)).await?;
    Ok(())
}

async fn add(unit: &Unit, moves: &[(RollupKey<'_>, Sums)]) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    let (key, set) = (KEY.join(", "), assignments("excluded"));
    let sql = format!(
        "insert into usage.rollups_hourly as r ({key}, {}) select * from {MOVES} on conflict ({key}) do update set {set}",
        SUMS.join(", ")
    );
    execute(unit, &sql, moves).await?;
    Ok(())
}

async fn correct(unit: &Unit, moves: &[(RollupKey<'_>, Sums)]) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    let same = KEY.map(|column| format!("r.{column} = move.{column}")).join(" and ");
    let (key, sums, set) = (KEY.join(", "), SUMS.join(", "), assignments("move"));
    let sql = format!("update usage.rollups_hourly as r set {set} from {MOVES} as move({key}, {sums}) where {same}");
    let corrected = execute(unit, &sql, moves).await?;
    if corrected == moves.len() as u64 {
        Ok(())
    } else {
        Err(Error::Internal(format!("{corrected} of {} sums to correct were there", moves.len())))
    }
}

fn assignments(from: &str) -> String {
    SUMS.map(|column| format!("{column} = r.{column} + {from}.{column}")).join(", ")
}

async fn execute(unit: &Unit, sql: &str, moves: &[(RollupKey<'_>, Sums)]) -> Result<u64, Error> {
    let organizations: Vec<&Uuid> = moves.iter().map(|(key, _)| key.organization.as_uuid()).collect();
    let hours = column(moves, |key, _| key.hour);
    let users: Vec<Uuid> = column(moves, |key, _| key.user.map_or(Uuid::nil(), Into::into));
    let api_keys: Vec<Uuid> = column(moves, |key, _| key.api_key.map_or(Uuid::nil(), Into::into));
    let models = column(moves, |key, _| key.model);
    let providers = column(moves, |key, _| key.provider);
    let operations = column(moves, |key, _| key.operation);
    let requests = column(moves, |_, sums| sums.requests);
    let input = column(moves, |_, sums| sums.input_tokens);
    let cached = column(moves, |_, sums| sums.cached_input_tokens);
    let output = column(moves, |_, sums| sums.output_tokens);
    let cost = column(moves, |_, sums| sums.cost_nano_usd);
    let estimated = column(moves, |_, sums| sums.estimated_requests);
    let keys: [&(dyn ToSql + Sync); 7] = [&organizations, &hours, &users, &api_keys, &models, &providers, &operations];
    let sums: [&(dyn ToSql + Sync); 6] = [&requests, &input, &cached, &output, &cost, &estimated];
    let statement = unit.prepare_cached(sql).await?;
    Ok(unit.execute(&statement, &[keys.as_slice(), sums.as_slice()].concat()).await?)
}

fn column<'a, T>(moves: &[(RollupKey<'a>, Sums)], of: impl Fn(&RollupKey<'a>, &Sums) -> T) -> Vec<T> {
    moves.iter().map(|(key, sums)| of(key, sums)).collect()
}
