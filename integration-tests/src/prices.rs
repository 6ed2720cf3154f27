//! What a request costs by the price book, computed on this side of every service.

use std::collections::HashMap;

use anyhow::Context;
use weir_proto::billing::v1::PriceBook;
use weir_types::price::{Price, TokenPrice, Tokens};

use crate::totals::Totals;

/// Prices by model, of one provider's list.
#[derive(Debug, Clone, Default)]
pub struct Prices(HashMap<String, Price>);

impl Prices {
    /// The list of this provider.
    #[must_use]
    pub fn of(book: &PriceBook, provider: &str) -> Self {
        let prices = book.prices.iter().filter(|price| price.provider == provider);
        let price = |input, cached_input, output| TokenPrice::of_text(input, cached_input, output).into();
        Self(
            prices
                .map(|one| {
                    (
                        one.model.clone(),
                        price(one.input_per_million, one.cached_input_per_million, one.output_per_million),
                    )
                })
                .collect(),
        )
    }

    /// One request with its cost.
    ///
    /// # Errors
    /// The model has no price, or the cost does not fit.
    pub fn request(&self, model: &str, input: i64, output: i64) -> anyhow::Result<Totals> {
        let price = self.0.get(model).with_context(|| format!("the price book has no price for {model}"))?;
        let cost =
            price.cost(&Tokens { input, output, ..Tokens::default() }.into()).context("the cost does not fit")?;
        Ok(Totals::request(input, output, cost.0))
    }
}
