//! Moving the hourly sums.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Error, Unit};
use crate::domain::{RollupKey, Sums};

const KEY: [&str; 7] = ["organization_id", "hour", "user_id", "api_key_id", "model", "provider", "operation"];
const SUMS: [&str; 6] =
    ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nano_usd", "estimated_requests"];

/// Moves the sums by `moves`, which are in the order of their keys, and commits. Nobody else may be recording.
///
/// # Errors
/// When the database fails; when the commit's answer is lost, it is unknown whether it took place.
pub async fn apply_and_commit(unit: Unit, moves: &[(RollupKey<'_>, Sums)]) -> Result<(), Error> {
    // The table's constraint is checked on the row that an upsert proposes, before the row in its way is found. A
    // difference that is no sum by itself comes from a row that is there: it needs no upsert.
    let (sums, differences): (Vec<_>, Vec<_>) = moves.iter().copied().partition(|(_, sums)| sums.is_sum());
    correct(&unit, &differences).await?;
    if sums.is_empty() {
        return unit.commit().await;
    }
    let statement = unit.prepare_cached(&ADD).await?;
    let columns = Columns::of(&sums);
    unit.execute_and_commit(&statement, &columns.parameters()).await
}

static ADD: LazyLock<String> = LazyLock::new(|| {
    let key = KEY.join(", ");
    let set = SUMS.map(|column| format!("{column} = r.{column} + excluded.{column}")).join(", ");
    format!(
        "insert into usage.rollups_hourly as r ({key}, {}) select * from unnest($1::uuid[], $2::timestamptz[], \
         $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], \
         $11::bigint[], $12::bigint[], $13::bigint[]) on conflict ({key}) do update set {set}",
        SUMS.join(", ")
    )
});

static CORRECT: LazyLock<String> = LazyLock::new(|| {
    let numbered = |columns: &[&str], first: usize, text: fn(&str, usize) -> String, between: &str| {
        columns.iter().zip(first..).map(|(column, at)| text(column, at)).collect::<Vec<_>>().join(between)
    };
    let same = numbered(&KEY, 1, |column, at| format!("{column} = ${at}"), " and ");
    let set = numbered(&SUMS, 1 + KEY.len(), |column, at| format!("{column} = {column} + ${at}"), ", ");
    format!("update usage.rollups_hourly set {set} where {same}")
});

/// The moves by columns.
struct Columns<'a> {
    organizations: Vec<Uuid>,
    hours: Vec<DateTime<Utc>>,
    users: Vec<Uuid>,
    api_keys: Vec<Uuid>,
    /// Models, providers, operations.
    names: [Vec<&'a str>; 3],
    /// In the order of [`SUMS`].
    sums: [Vec<i64>; 6],
}

impl<'a> Columns<'a> {
    fn of(moves: &[(RollupKey<'a>, Sums)]) -> Self {
        Self {
            organizations: column(moves, |key, _| key.organization.into()),
            hours: column(moves, |key, _| key.hour),
            users: column(moves, |key, _| user(key)),
            api_keys: column(moves, |key, _| api_key(key)),
            names: [
                column(moves, |key, _| key.model),
                column(moves, |key, _| key.provider),
                column(moves, |key, _| key.operation),
            ],
            sums: [
                column(moves, |_, sums| sums.requests),
                column(moves, |_, sums| sums.input_tokens),
                column(moves, |_, sums| sums.cached_input_tokens),
                column(moves, |_, sums| sums.output_tokens),
                column(moves, |_, sums| sums.cost_nano_usd),
                column(moves, |_, sums| sums.estimated_requests),
            ],
        }
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&self.organizations, &self.hours, &self.users, &self.api_keys];
        parameters.extend(self.names.iter().map(|names| names as &(dyn ToSql + Sync)));
        parameters.extend(self.sums.iter().map(|sums| sums as &(dyn ToSql + Sync)));
        parameters
    }
}

async fn correct(unit: &Unit, moves: &[(RollupKey<'_>, Sums)]) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    let statement = unit.prepare_cached(&CORRECT).await?;
    let corrections = moves.iter().map(async |(key, sums)| {
        let (user, api_key) = (user(key), api_key(key));
        let organization = key.organization.as_uuid();
        let keys: [&(dyn ToSql + Sync); 7] =
            [organization, &key.hour, &user, &api_key, &key.model, &key.provider, &key.operation];
        let sums: [&(dyn ToSql + Sync); 6] = [
            &sums.requests,
            &sums.input_tokens,
            &sums.cached_input_tokens,
            &sums.output_tokens,
            &sums.cost_nano_usd,
            &sums.estimated_requests,
        ];
        unit.execute(&statement, &[keys.as_slice(), sums.as_slice()].concat()).await
    });
    // All are on their way before the first is answered.
    let corrected: u64 = try_join_all(corrections).await?.into_iter().sum();
    if corrected == moves.len() as u64 {
        Ok(())
    } else {
        Err(Error::Internal(format!("{corrected} of {} sums to correct were there", moves.len())))
    }
}

/// The nil UUID stands for none.
fn user(key: &RollupKey<'_>) -> Uuid {
    key.user.map_or(Uuid::nil(), Into::into)
}

fn api_key(key: &RollupKey<'_>) -> Uuid {
    key.api_key.map_or(Uuid::nil(), Into::into)
}

fn column<'a, T>(moves: &[(RollupKey<'a>, Sums)], of: impl Fn(&RollupKey<'a>, &Sums) -> T) -> Vec<T> {
    moves.iter().map(|(key, sums)| of(key, sums)).collect()
}
