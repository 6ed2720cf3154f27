//! `broker.provider_keys` and `broker.data_keys`: keys of providers that users and organisations bring themselves, sealed.

pub(crate) mod change;
pub(crate) mod follow;
pub(crate) mod read;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use weir_database::Error;
use weir_types::{NanoUsd, OrganizationId, ProviderKeyId};

use crate::domain::own_keys::{Holder, KeyLimits, KeyView, Wrapped};

/// The columns of a [`KeyRow`], and of a [`KeyView`] after its first five.
const COLUMNS: &str =
    "organization_id, key_id, sealed, revision, deleted_at is not null as deleted, user_id, provider, label,
    last_four, requests_per_minute, tokens_per_minute, cost_nano_usd_per_month, created_at, updated_at, used_at";

/// A key as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct KeyRow {
    pub(crate) view: KeyView,
    pub(crate) sealed: Vec<u8>,
    pub(crate) revision: i64,
    pub(crate) deleted: bool,
}

/// A tenant's data key as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct DataKeyRow {
    pub(crate) organization: OrganizationId,
    pub(crate) wrapped: Wrapped,
    pub(crate) revision: i64,
}

/// Numbers a change, and lets nobody else change anything before the transaction ends.
pub(crate) async fn tick(tx: &mut PgConnection) -> Result<i64, Error> {
    let tick = "update broker.provider_key_clock set revision = revision + 1 returning revision";
    Ok(sqlx::query_scalar(tick).fetch_one(tx).await?)
}

fn view(row: &PgRow) -> Result<KeyView, sqlx::Error> {
    let cost: Option<i64> = row.try_get("cost_nano_usd_per_month")?;
    Ok(KeyView {
        id: ProviderKeyId::from(row.try_get::<Uuid, _>("key_id")?),
        holder: Holder {
            organization: row.try_get::<Uuid, _>("organization_id")?.into(),
            user: row.try_get::<Option<Uuid>, _>("user_id")?.map(Into::into),
            provider: row.try_get("provider")?,
        },
        label: row.try_get("label")?,
        last_four: row.try_get("last_four")?,
        limits: KeyLimits {
            requests_per_minute: row.try_get("requests_per_minute")?,
            tokens_per_minute: row.try_get("tokens_per_minute")?,
            cost_per_month: cost.map(NanoUsd),
        },
        created_at: row.try_get::<DateTime<Utc>, _>("created_at")?,
        updated_at: row.try_get::<DateTime<Utc>, _>("updated_at")?,
        used_at: row.try_get("used_at")?,
    })
}

fn key_row(row: &PgRow) -> Result<KeyRow, sqlx::Error> {
    Ok(KeyRow {
        view: view(row)?,
        sealed: row.try_get("sealed")?,
        revision: row.try_get("revision")?,
        deleted: row.try_get("deleted")?,
    })
}

fn data_key_row(row: &PgRow) -> Result<DataKeyRow, sqlx::Error> {
    Ok(DataKeyRow {
        organization: row.try_get::<Uuid, _>("organization_id")?.into(),
        wrapped: Wrapped { master_version: row.try_get("master_version")?, bytes: row.try_get("wrapped")? },
        revision: row.try_get("revision")?,
    })
}
