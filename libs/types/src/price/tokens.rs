//! Tokens of one usage line by kind, and what each kind costs.

use serde::{Deserialize, Serialize};

use crate::money::Overflow;

/// What each kind of token costs, in nano-USD per million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct TokenPrice {
    /// Text that no cache has to do with.
    pub input: i64,
    /// What was read from the provider's cache.
    pub cached_input: i64,
    /// What was written to it.
    pub cache_write: i64,
    /// What was written to it for an hour.
    pub cache_write_long: i64,
    /// Audio.
    pub audio_input: i64,
    /// Pictures.
    pub image_input: i64,
    /// Text, reasoning included.
    pub output: i64,
    /// Audio.
    pub audio_output: i64,
}

/// A list as it was once written down.
#[derive(Deserialize)]
struct Stored {
    input: i64,
    cached_input: i64,
    cache_write: i64,
    cache_write_long: i64,
    audio_input: i64,
    /// Lists did not always have it.
    image_input: Option<i64>,
    output: i64,
    audio_output: i64,
}

impl From<Stored> for TokenPrice {
    fn from(list: Stored) -> Self {
        Self {
            input: list.input,
            cached_input: list.cached_input,
            cache_write: list.cache_write,
            cache_write_long: list.cache_write_long,
            audio_input: list.audio_input,
            image_input: list.image_input.unwrap_or(list.input),
            output: list.output,
            audio_output: list.audio_output,
        }
    }
}

/// The tokens of one usage line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All input.
    pub input: i64,
    /// Of `input`, what was read from the provider's cache.
    pub cached_input: i64,
    /// Of `input`, what was written to the provider's cache.
    pub cache_write: i64,
    /// Of `input`, what was written to it for an hour.
    pub cache_write_long: i64,
    /// Of the rest of `input`, what was audio.
    pub audio_input: i64,
    /// Of the rest of `input`, what were pictures.
    pub image_input: i64,
    /// All output.
    pub output: i64,
    /// Of `output`, what was thought and not said: it costs what output costs.
    pub reasoning: i64,
    /// Of `output`, what was audio.
    pub audio_output: i64,
}

impl TokenPrice {
    /// A list that says no more: what is written to a cache costs what input costs, and audio and pictures what text costs.
    #[must_use]
    pub const fn of_text(input: i64, cached_input: i64, output: i64) -> Self {
        Self {
            input,
            cached_input,
            cache_write: input,
            cache_write_long: input,
            audio_input: input,
            image_input: input,
            output,
            audio_output: output,
        }
    }

    /// The cost in millionths of a nano-dollar, exactly. A part that is more than its whole counts as the whole.
    pub(super) fn millionths(&self, tokens: &Tokens) -> Result<i128, Overflow> {
        let prices = [
            self.input,
            self.cached_input,
            self.cache_write,
            self.cache_write_long,
            self.audio_input,
            self.image_input,
            self.output,
            self.audio_output,
        ];
        if prices.iter().chain(&tokens.counts()).any(|&part| part < 0) {
            return Err(Overflow);
        }
        let (mut rest, mut sum) = (tokens.input, 0);
        for (count, price) in [
            (tokens.cached_input, self.cached_input),
            (tokens.cache_write_long, self.cache_write_long),
            (tokens.cache_write, self.cache_write),
            (tokens.audio_input, self.audio_input),
            (tokens.image_input, self.image_input),
        ] {
            let count = count.min(rest);
            rest -= count;
            sum += i128::from(count) * i128::from(price);
        }
        let spoken = tokens.audio_output.min(tokens.output);
        Ok(sum
            + i128::from(rest) * i128::from(self.input)
            + i128::from(spoken) * i128::from(self.audio_output)
            + i128::from(tokens.output - spoken) * i128::from(self.output))
    }
}

impl Tokens {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.input == 0 && self.output == 0
    }

    fn counts(&self) -> [i64; 9] {
        [
            self.input,
            self.cached_input,
            self.cache_write,
            self.cache_write_long,
            self.audio_input,
            self.image_input,
            self.output,
            self.reasoning,
            self.audio_output,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: TokenPrice = TokenPrice {
        input: 100,
        cached_input: 10,
        cache_write: 125,
        cache_write_long: 200,
        audio_input: 1000,
        image_input: 300,
        output: 500,
        audio_output: 5000,
    };

    #[test]
    fn each_kind_of_token_has_its_price() {
        let input = Tokens {
            input: 15,
            cached_input: 4,
            cache_write: 3,
            cache_write_long: 2,
            audio_input: 1,
            image_input: 2,
            ..Tokens::default()
        };
        assert_eq!(PRICE.millionths(&input), Ok(3 * 100 + 4 * 10 + 3 * 125 + 2 * 200 + 1000 + 2 * 300));
        let output = Tokens { output: 9, reasoning: 4, audio_output: 2, ..Tokens::default() };
        assert_eq!(PRICE.millionths(&output), Ok(7 * 500 + 2 * 5000), "reasoning is output");
    }

    #[test]
    fn a_part_is_never_more_than_its_whole() {
        let absurd =
            Tokens { input: 10, cached_input: 7, cache_write: 99, output: 1, audio_output: 3, ..Tokens::default() };
        assert_eq!(PRICE.millionths(&absurd), Ok(7 * 10 + 3 * 125 + 5000));
        assert_eq!(PRICE.millionths(&Tokens { cache_write: -1, ..absurd }), Err(Overflow));
    }
}
