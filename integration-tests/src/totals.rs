//! What a book adds up to, and how it compares with another.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The four sums that every book must agree on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many requests were charged.
    pub requests: i64,
    /// Their input tokens.
    pub input_tokens: i64,
    /// Their output tokens.
    pub output_tokens: i64,
    /// What they cost, each rounded on its own.
    pub cost_nano_usd: i64,
}

impl Totals {
    /// One request.
    #[must_use]
    pub fn request(input_tokens: i64, output_tokens: i64, cost_nano_usd: i64) -> Self {
        Self { requests: 1, input_tokens, output_tokens, cost_nano_usd }
    }

    /// In which sums another book differs, with both values.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, i64, i64)> {
        [
            ("requests", self.requests, other.requests),
            ("input_tokens", self.input_tokens, other.input_tokens),
            ("output_tokens", self.output_tokens, other.output_tokens),
            ("cost_nano_usd", self.cost_nano_usd, other.cost_nano_usd),
        ]
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .collect()
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cost_nano_usd += other.cost_nano_usd;
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum += one;
        }
        sum
    }
}
