//! What tokens cost. Rounded once per usage line, half to even, so that the broker and billing
//! arrive at the same nano-dollar on their own.

use serde::{Deserialize, Serialize};

use crate::money::{NanoUsd, Overflow};

/// The list prices of one model, in nano-USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPrice {
    /// Input that is not cached.
    pub input: i64,
    /// Input that the provider had cached.
    pub cached_input: i64,
    /// Output, reasoning included.
    pub output: i64,
}

/// The tokens of one usage line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All input, cached or not.
    pub input: i64,
    /// Of `input`, what was cached; more than `input` counts as `input`.
    pub cached_input: i64,
    /// Output, reasoning included.
    pub output: i64,
}

const PER: i128 = 1_000_000;

impl TokenPrice {
    /// The cost of `tokens`: the exact sum of its parts, rounded half to even to a nano-dollar.
    ///
    /// # Errors
    /// When it does not fit, or anything is negative.
    pub fn cost(&self, tokens: &Tokens) -> Result<NanoUsd, Overflow> {
        let parts = [self.input, self.cached_input, self.output, tokens.input, tokens.cached_input, tokens.output];
        if parts.iter().any(|&part| part < 0) {
            return Err(Overflow);
        }
        let cached = tokens.cached_input.min(tokens.input);
        let millionths = i128::from(tokens.input - cached) * i128::from(self.input)
            + i128::from(cached) * i128::from(self.cached_input)
            + i128::from(tokens.output) * i128::from(self.output);
        i64::try_from(round_half_even(millionths)).map(NanoUsd).map_err(|_| Overflow)
    }
}

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

    const PRICE: TokenPrice = TokenPrice { input: 150_000_000, cached_input: 75_000_000, output: 600_000_000 };

    #[test]
    fn a_million_tokens_cost_the_list_price() {
        let tokens = Tokens { input: 1_000_000, cached_input: 0, output: 1_000_000 };
        assert_eq!(PRICE.cost(&tokens), Ok(NanoUsd(750_000_000)));
    }

    #[test]
    fn cached_input_is_a_part_of_input() {
        let tokens = Tokens { input: 1000, cached_input: 400, output: 0 };
        assert_eq!(PRICE.cost(&tokens), Ok(NanoUsd(600 * 150 + 400 * 75)));
        let absurd = Tokens { input: 10, cached_input: 99, output: 0 };
        assert_eq!(PRICE.cost(&absurd), Ok(NanoUsd(10 * 75)));
    }

    #[test]
    fn halves_go_to_the_even_side() {
        let price = TokenPrice { input: 500_000, cached_input: 0, output: 0 };
        let cost = |input| price.cost(&Tokens { input, ..Tokens::default() }).map(|c| c.0);
        assert_eq!([cost(1), cost(2), cost(3), cost(5)], [Ok(0), Ok(1), Ok(2), Ok(2)]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let price = TokenPrice { input: i64::MAX, cached_input: 0, output: 0 };
        assert_eq!(price.cost(&Tokens { input: 1 << 53, ..Tokens::default() }), Err(Overflow));
        assert_eq!(PRICE.cost(&Tokens { input: -1, ..Tokens::default() }), Err(Overflow));
    }

    proptest! {
        #[test]
        fn more_tokens_never_cost_less(input in 0i64..1 << 40, output in 0i64..1 << 40, more in 0i64..1 << 20) {
            let less = PRICE.cost(&Tokens { input, cached_input: 0, output }).expect("fits");
            let cost = PRICE.cost(&Tokens { input: input + more, cached_input: 0, output: output + more }).expect("fits");
            prop_assert!(cost >= less);
        }
    }
}
