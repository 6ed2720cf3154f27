//! The prices of all price books that were ever loaded.

use sqlx::{PgConnection, Row as _};
use weir_types::price::TokenPrice;

use super::Result;
use crate::domain::price_file::PriceFile;

/// The prices that were published under a version: provider, model, price.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn published(
    connection: &mut PgConnection,
    version: &str,
) -> Result<Vec<(String, String, TokenPrice)>> {
    let rows = sqlx::query(
        "select provider, model, input_per_million, cached_input_per_million, output_per_million
         from billing.published_prices where version = $1",
    )
    .bind(version)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let price = TokenPrice::of_text(
                row.try_get("input_per_million")?,
                row.try_get("cached_input_per_million")?,
                row.try_get("output_per_million")?,
            );
            Ok((row.try_get("provider")?, row.try_get("model")?, price))
        })
        .collect()
}

/// Publishes what is new in a file.
///
/// # Errors
/// When the database doesn't answer.
pub(crate) async fn publish(connection: &mut PgConnection, file: &PriceFile) -> Result<()> {
    let of =
        |part: fn(&TokenPrice) -> i64| file.prices.iter().map(|price| part(&price.price.tokens)).collect::<Vec<i64>>();
    sqlx::query(
        "insert into billing.published_prices
             (version, provider, model, input_per_million, cached_input_per_million, output_per_million)
         select $1, * from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
         on conflict do nothing",
    )
    .bind(&file.version)
    .bind(file.prices.iter().map(|price| price.provider.as_str()).collect::<Vec<_>>())
    .bind(file.prices.iter().map(|price| price.model.as_str()).collect::<Vec<_>>())
    .bind(of(|price| price.input))
    .bind(of(|price| price.cached_input))
    .bind(of(|price| price.output))
    .execute(connection)
    .await?;
    Ok(())
}
