//! The prices of all price books that were ever loaded.

use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use weir_types::price::Price;

use super::Result;
use crate::domain::price_file::PriceFile;

/// A price that was published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Input, cached input and output, per million tokens.
    text: [i64; 3],
    /// All of it; unset if it was published before there was more to say.
    list: Option<Price>,
}

impl Published {
    /// Whether this is still what was published.
    pub(crate) fn holds(&self, price: &Price) -> bool {
        self.text == text_of(price) && self.list.as_ref().is_none_or(|list| list == price)
    }
}

fn text_of(price: &Price) -> [i64; 3] {
    [price.tokens.input, price.tokens.cached_input, price.tokens.output]
}

/// The prices that were published under a version.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn published(connection: &mut PgConnection, version: &str) -> Result<Vec<Published>> {
    let rows = sqlx::query(
        "select provider, model, input_per_million, cached_input_per_million, output_per_million, list
         from billing.published_prices where version = $1",
    )
    .bind(version)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let text = [
                row.try_get("input_per_million")?,
                row.try_get("cached_input_per_million")?,
                row.try_get("output_per_million")?,
            ];
            let list: Option<Json<Price>> = row.try_get("list")?;
            let list = list.map(|list| list.0);
            Ok(Published { provider: row.try_get("provider")?, model: row.try_get("model")?, text, list })
        })
        .collect()
}

/// Publishes what is new in a file.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn publish(connection: &mut PgConnection, file: &PriceFile) -> Result<()> {
    let of = |part: usize| file.prices.iter().map(|price| text_of(&price.price)[part]).collect::<Vec<i64>>();
    sqlx::query(
        "insert into billing.published_prices
             (version, provider, model, input_per_million, cached_input_per_million, output_per_million, list)
         select $1, * from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::jsonb[])
         on conflict (version, provider, model) do update set list = excluded.list
             where published_prices.list is null",
    )
    .bind(&file.version)
    .bind(file.prices.iter().map(|price| price.provider.as_str()).collect::<Vec<_>>())
    .bind(file.prices.iter().map(|price| price.model.as_str()).collect::<Vec<_>>())
    .bind(of(0))
    .bind(of(1))
    .bind(of(2))
    .bind(file.prices.iter().map(|price| Json(&price.price)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
