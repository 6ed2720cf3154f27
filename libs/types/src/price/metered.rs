//! What one call used, and how a usage event says it.

use std::collections::BTreeMap;

use super::{TIER, Tokens};
use crate::unit;

/// What one usage line counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metered {
    /// Tokens of every kind.
    pub tokens: Tokens,
    /// At which of the provider's prices they were served, if not at the usual ones.
    pub tier: Option<String>,
    /// Everything else by unit.
    pub units: BTreeMap<String, i64>,
}

impl From<Tokens> for Metered {
    fn from(tokens: Tokens) -> Self {
        Self { tokens, ..Self::default() }
    }
}

impl Metered {
    /// What a usage event carries beside input, cached input and output: kinds of tokens and further units, by name.
    #[must_use]
    pub fn quantities(&self) -> BTreeMap<String, i64> {
        let mut quantities: BTreeMap<String, i64> =
            self.units.iter().filter(|(_, count)| **count != 0).map(|(unit, count)| (unit.clone(), *count)).collect();
        let mut tokens = self.tokens;
        for (unit, count) in parts(&mut tokens) {
            if *count != 0 {
                quantities.insert(unit.to_owned(), *count);
            }
        }
        if let Some(tier) = &self.tier {
            quantities.insert(format!("{tier}{TIER}"), 1);
        }
        quantities
    }

    /// Reads what a usage event carries.
    #[must_use]
    pub fn of_event(input: i64, cached_input: i64, output: i64, quantities: &BTreeMap<String, i64>) -> Self {
        let mut read = Self::from(Tokens { input, cached_input, output, ..Tokens::default() });
        for (unit, &count) in quantities {
            if let Some((_, part)) = parts(&mut read.tokens).into_iter().find(|(name, _)| name == unit) {
                *part = count;
            } else if let Some(tier) = unit.strip_suffix(TIER) {
                read.tier = Some(tier.to_owned());
            } else {
                read.units.insert(unit.clone(), count);
            }
        }
        read
    }
}

/// The kinds of tokens that an event has no field for.
fn parts(tokens: &mut Tokens) -> [(&'static str, &mut i64); 6] {
    [
        (unit::CACHE_WRITE_TOKEN, &mut tokens.cache_write),
        (unit::CACHE_WRITE_1H_TOKEN, &mut tokens.cache_write_long),
        (unit::AUDIO_INPUT_TOKEN, &mut tokens.audio_input),
        (unit::IMAGE_INPUT_TOKEN, &mut tokens.image_input),
        (unit::REASONING_TOKEN, &mut tokens.reasoning),
        (unit::AUDIO_OUTPUT_TOKEN, &mut tokens.audio_output),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::price::{Price, TokenPrice};

    prop_compose! {
        fn any_metered()(
            counts in prop::array::uniform9(0i64..1 << 30),
            seconds in 0i64..100_000,
            tier in prop::option::of(prop::sample::select(vec!["batch", "flex"])),
        ) -> Metered {
            let [input, cached_input, cache_write, cache_write_long, audio_input, image_input, output, reasoning, audio_output] =
                counts;
            let tokens = Tokens {
                input, cached_input, cache_write, cache_write_long, audio_input, image_input, output, reasoning, audio_output,
            };
            let units = [("second".to_owned(), seconds)].into_iter().filter(|(_, count)| *count > 0).collect();
            Metered { tokens, tier: tier.map(str::to_owned), units }
        }
    }

    prop_compose! {
        fn any_tokens()(prices in prop::array::uniform8(0i64..1 << 40)) -> TokenPrice {
            let [input, cached_input, cache_write, cache_write_long, audio_input, image_input, output, audio_output] = prices;
            TokenPrice { input, cached_input, cache_write, cache_write_long, audio_input, image_input, output, audio_output }
        }
    }

    proptest! {
        #[test]
        fn what_an_event_carries_costs_the_same_to_whoever_reads_it(
            used in any_metered(), usual in any_tokens(), tier in any_tokens(), second in 0i64..1 << 50,
        ) {
            let tiers = [("batch".to_owned(), tier), ("flex".to_owned(), tier)].into();
            let units = [("second".to_owned(), second)].into();
            let price = Price { tokens: usual, tiers, units, ..Price::default() };
            let Tokens { input, cached_input, output, .. } = used.tokens;
            let read = Metered::of_event(input, cached_input, output, &used.quantities());
            prop_assert_eq!(&read, &used);
            prop_assert_eq!(price.cost(&read), price.cost(&used));
        }
    }

    #[test]
    fn a_plain_call_carries_nothing_more() {
        assert!(
            Metered::from(Tokens { input: 5, cached_input: 2, output: 7, ..Tokens::default() }).quantities().is_empty()
        );
    }
}
