//! A price book: what each model's tokens cost.

use std::collections::HashMap;

use weir_types::price::Price;

/// List prices of one model, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelPrice {
    /// The provider whose list it is.
    pub(crate) provider: String,
    /// The model's name in the provider's API.
    pub(crate) model: String,
    /// Of tokens, and of media in their own units.
    pub(crate) price: Price,
    /// The most tokens it answers with.
    pub(crate) max_output_tokens: i64,
    /// The most tokens that a call may have in all.
    pub(crate) context_tokens: i64,
}

/// Prices by model, at one version.
#[derive(Debug, Clone)]
pub(crate) struct PriceBook {
    version: String,
    prices: Vec<ModelPrice>,
    by_model: HashMap<String, Vec<usize>>,
}

impl PriceBook {
    /// A book of `prices`; of two for the same model of a provider the later one counts.
    #[must_use]
    pub(crate) fn new(version: String, prices: impl IntoIterator<Item = ModelPrice>) -> Self {
        let mut book = Self { version, prices: Vec::new(), by_model: HashMap::new() };
        for price in prices {
            let indices = book.by_model.entry(price.model.clone()).or_default();
            match indices.iter().find(|&&i| book.prices[i].provider == price.provider) {
                Some(&index) => book.prices[index] = price,
                None => {
                    indices.push(book.prices.len());
                    book.prices.push(price);
                }
            }
        }
        book
    }

    /// The version; of a book with layers all versions, with `+` between.
    #[must_use]
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// All prices.
    #[must_use]
    pub(crate) fn prices(&self) -> &[ModelPrice] {
        &self.prices
    }

    /// The price of a provider's model. Where the provider itself has no list with the model, it is another way to reach it
    /// (a proxy, a second account, a simulation): it has the price of the only list that has this name, and none if several do.
    #[must_use]
    pub(crate) fn find(&self, provider: &str, model: &str) -> Option<&ModelPrice> {
        let prices = || self.by_model.get(model).into_iter().flatten().map(|&i| &self.prices[i]);
        if let Some(own) = prices().find(|price| price.provider == provider) {
            return Some(own);
        }
        let mut prices = prices();
        let only = prices.next()?;
        prices.next().is_none().then_some(only)
    }
}

#[cfg(test)]
mod tests {
    use weir_types::price::TokenPrice;

    use super::*;

    fn price(provider: &str, model: &str, input: i64) -> ModelPrice {
        ModelPrice {
            provider: provider.to_owned(),
            model: model.to_owned(),
            price: TokenPrice::of_text(input, input, input).into(),
            max_output_tokens: 1,
            context_tokens: 1,
        }
    }

    #[test]
    fn a_price_is_found_by_provider_and_model() {
        let book = PriceBook::new(
            "1".to_owned(),
            [price("a", "m", 1), price("b", "m", 2), price("a", "only", 3), price("a", "m", 4)],
        );
        let input = |provider, model| book.find(provider, model).map(|found| found.price.tokens.input);
        assert_eq!(input("a", "m"), Some(4), "the later price counts");
        assert_eq!(input("b", "m"), Some(2));
        assert_eq!(input("b", "only"), Some(3), "the only list with this model");
        assert_eq!(input("a-in-europe", "only"), Some(3));
        assert_eq!(input("a-in-europe", "m"), None, "two lists have this name");
        assert_eq!(input("a", "unheard-of"), None);
        assert_eq!(book.prices().len(), 3);
    }
}
