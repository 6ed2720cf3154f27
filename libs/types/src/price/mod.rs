//! What a call costs: tokens of every kind and media in their own units. Rounded once per usage line, half to even, so
//! that the broker and billing arrive at the same nano-dollar on their own.

mod metered;
mod tokens;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use metered::Metered;
pub use tokens::{TokenPrice, Tokens};

use crate::money::{NanoUsd, Overflow};
use crate::unit;

/// The list prices of one model. All in nano-USD per million units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of tokens, as long as nothing below applies.
    pub tokens: TokenPrice,
    /// Of tokens where the prompt is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_prompt: Option<LongPrompt>,
    /// Of tokens of calls that the provider serves at another price, by [`TIERS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, TokenPrice>,
    /// Of everything else, by unit: `second`, `character`, `image_1024x1024_hd`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, i64>,
    /// Of what each call is one of, whatever it asks for: `task`. Nothing where it is only counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_call: BTreeMap<String, i64>,
}

/// Prices of a call whose input is longer than a bound: they hold for all of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongPrompt {
    /// Up to so many input tokens, cached ones included, the usual prices hold.
    pub above: i64,
    /// Beyond.
    pub tokens: TokenPrice,
}

/// What providers call the prices that are not their usual ones, as `service_tier` says them.
pub const TIERS: [&str; 5] = ["batch", "fast", "flex", "priority", "ultrafast"];

/// Why something has no cost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCost {
    /// It does not fit, or a count is negative.
    #[error("the counts are out of range")]
    OutOfRange,
    /// The list has no price for a unit.
    #[error("there is no price per `{0}`")]
    NoPrice(String),
}

impl From<Overflow> for NoCost {
    fn from(Overflow: Overflow) -> Self {
        Self::OutOfRange
    }
}

const PER: i128 = 1_000_000;

impl From<TokenPrice> for Price {
    fn from(tokens: TokenPrice) -> Self {
        Self { tokens, ..Self::default() }
    }
}

impl Price {
    /// The cost of a usage line: the exact sum of its parts, rounded half to even to a nano-dollar.
    ///
    /// # Errors
    /// When it does not fit, anything is negative, or the list has no price for something of it.
    pub fn cost(&self, used: &Metered) -> Result<NanoUsd, NoCost> {
        let tokens = self.of_tokens(used.tokens.input, used.tier.as_deref())?;
        let mut millionths = tokens.millionths(&used.tokens)?;
        for (unit, &count) in used.units.iter().filter(|(_, count)| **count != 0) {
            let price = match self.units.get(unit).or_else(|| self.per_call.get(unit)) {
                Some(price) => *price,
                None if self.counts_beside(unit) => continue,
                None => return Err(NoCost::NoPrice(unit.clone())),
            };
            if price < 0 || count < 0 {
                return Err(NoCost::OutOfRange);
            }
            let part = i128::from(price) * i128::from(count);
            millionths = millionths.checked_add(part).ok_or(NoCost::OutOfRange)?;
        }
        i64::try_from(round_half_even(millionths)).map(NanoUsd).map_err(|_| NoCost::OutOfRange)
    }

    /// Adds to what a call used the units that each call is one of.
    pub fn count_call(&self, used: &mut Metered) {
        used.units.extend(self.per_call.keys().map(|unit| (unit.clone(), 1)));
    }

    /// Whether a unit is counted for limits alone: media of a model that is charged by tokens, pictures of one that is charged by pixels.
    fn counts_beside(&self, unit: &str) -> bool {
        let by_token = self.tokens.input > 0 && [unit::SECOND, unit::CHARACTER, unit::IMAGE].contains(&unit);
        by_token || unit == unit::IMAGE && self.units.contains_key(unit::MEGAPIXEL)
    }

    /// The tier that a call of so much input is charged in that was served in `said`; none where the list has no price for it:
    /// then the usual prices hold.
    #[must_use]
    pub fn tier<'a>(&self, said: Option<&'a str>, input: i64) -> Option<&'a str> {
        said.filter(|tier| self.of_tokens(input, Some(tier)).is_ok())
    }

    /// The prices that hold for a call with so much input, in this tier.
    ///
    /// # Errors
    /// The list does not have the tier, or has it but no price for long prompts in it.
    pub fn of_tokens(&self, input: i64, tier: Option<&str>) -> Result<&TokenPrice, NoCost> {
        let long = self.long_prompt.as_ref().filter(|long| input > long.above);
        match (tier, long) {
            (None, None) => Ok(&self.tokens),
            (None, Some(long)) => Ok(&long.tokens),
            (Some(tier), None) => self.tiers.get(tier).ok_or_else(|| NoCost::NoPrice(tier_unit(tier))),
            (Some(tier), Some(_)) => Err(NoCost::NoPrice(tier_unit(tier))),
        }
    }
}

/// The unit that says of a usage line in which tier it was served.
fn tier_unit(tier: &str) -> String {
    format!("{tier}{TIER}")
}

/// What the units of tiers end with: `batch_request`.
const TIER: &str = "_request";

fn round_half_even(millionths: i128) -> i128 {
    let (whole, rest) = (millionths / PER, millionths % PER);
    match (rest * 2).cmp(&PER) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + (whole & 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: TokenPrice = TokenPrice::of_text(150_000_000, 75_000_000, 600_000_000);

    fn cost(price: &Price, tokens: Tokens) -> Result<i64, NoCost> {
        price.cost(&tokens.into()).map(|cost| cost.0)
    }

    #[test]
    fn a_million_tokens_cost_the_list_price() {
        let tokens = Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() };
        assert_eq!(cost(&TEXT.into(), tokens), Ok(750_000_000));
    }

    #[test]
    fn halves_go_to_the_even_side() {
        let price = Price::from(TokenPrice::of_text(500_000, 0, 0));
        let cost = |input| cost(&price, Tokens { input, ..Tokens::default() });
        assert_eq!([cost(1), cost(2), cost(3), cost(5)], [Ok(0), Ok(1), Ok(2), Ok(2)]);
    }

    #[test]
    fn a_line_is_rounded_once_over_all_its_parts() {
        let mut price = Price::from(TokenPrice::of_text(400_000, 0, 0));
        price.units.insert("second".to_owned(), 400_000);
        let mut used = Metered::from(Tokens { input: 1, ..Tokens::default() });
        used.units.insert("second".to_owned(), 1);
        assert_eq!(price.cost(&used), Ok(NanoUsd(1)), "0.4 and 0.4 are 0.8, and not twice nothing");
    }

    #[test]
    fn media_cost_by_their_unit_and_nothing_is_free_for_want_of_a_price() {
        let mut price = Price::default();
        price.units.insert("image_1024x1024_hd".to_owned(), 80_000_000_000_000);
        let of = |unit: &str, count| Metered { units: [(unit.to_owned(), count)].into(), ..Metered::default() };
        assert_eq!(price.cost(&of("image_1024x1024_hd", 2)), Ok(NanoUsd(160_000_000)));
        assert_eq!(price.cost(&of("second", 1)), Err(NoCost::NoPrice("second".to_owned())));
        assert_eq!(price.cost(&of("second", 0)), Ok(NanoUsd::ZERO));
        assert_eq!(Price::from(TEXT).cost(&of("second", 9)), Ok(NanoUsd::ZERO), "it is charged by tokens");
        assert!(Price::from(TEXT).cost(&of("web_search", 1)).is_err());
        assert_eq!(price.cost(&of("image_1024x1024_hd", -1)), Err(NoCost::OutOfRange));
    }

    #[test]
    fn a_price_per_call_comes_once_with_each_beside_its_tokens() {
        let mut price = Price::from(TEXT);
        price.per_call = [("search".to_owned(), 5_000_000_000_000), ("task".to_owned(), 0)].into();
        let mut used = Metered::from(Tokens { input: 1_000_000, ..Tokens::default() });
        for _ in 0..2 {
            price.count_call(&mut used);
        }
        assert_eq!(used.units, BTreeMap::from([("search".to_owned(), 1), ("task".to_owned(), 1)]));
        assert_eq!(price.cost(&used), Ok(NanoUsd(150_000_000 + 5_000_000)));
    }

    #[test]
    fn a_long_prompt_and_a_tier_have_prices_of_their_own() {
        let long = LongPrompt { above: 1000, tokens: TokenPrice::of_text(2_000_000, 0, 0) };
        let batch = [("batch".to_owned(), TokenPrice::of_text(500_000, 0, 0))].into();
        let usual = TokenPrice::of_text(1_000_000, 0, 0);
        let price = Price { tokens: usual, long_prompt: Some(long), tiers: batch, ..Price::default() };
        let tokens = |input| Tokens { input, ..Tokens::default() };
        assert_eq!((cost(&price, tokens(1000)), cost(&price, tokens(1001))), (Ok(1000), Ok(2002)));
        let in_tier = |input, tier: &str| price.cost(&Metered { tier: Some(tier.into()), ..tokens(input).into() });
        assert_eq!(in_tier(1000, "batch"), Ok(NanoUsd(500)));
        assert_eq!(in_tier(1000, "flex"), Err(NoCost::NoPrice("flex_request".to_owned())));
        assert!(in_tier(1001, "batch").is_err(), "nobody knows what a long prompt costs there");
        let charged = |tier, input| price.tier(tier, input);
        assert_eq!(charged(Some("batch"), 1000), Some("batch"));
        assert_eq!([charged(Some("flex"), 1), charged(Some("batch"), 1001), charged(None, 1)], [None; 3]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let price = Price::from(TokenPrice::of_text(i64::MAX, 0, 0));
        assert_eq!(cost(&price, Tokens { input: 1 << 53, ..Tokens::default() }), Err(NoCost::OutOfRange));
        assert_eq!(cost(&TEXT.into(), Tokens { input: -1, ..Tokens::default() }), Err(NoCost::OutOfRange));
    }

    proptest! {
        #[test]
        fn more_tokens_never_cost_less(input in 0i64..1 << 40, output in 0i64..1 << 40, more in 0i64..1 << 20) {
            let of = |input, output| cost(&TEXT.into(), Tokens { input, output, ..Tokens::default() }).expect("fits");
            prop_assert!(of(input + more, output + more) >= of(input, output));
        }
    }
}
