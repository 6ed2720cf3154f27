//! Amounts and spans as people write them.

use std::fmt;
use std::time::Duration;

use weir_types::{NanoUsd, unit};

/// So much of a unit: `1,200 tokens`, `1 request`, `$0.05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity<'a> {
    /// The unit.
    pub unit: &'a str,
    /// How much of it.
    pub value: i64,
}

impl fmt::Display for Quantity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.unit, self.value) {
            (unit, nanos) if unit::is_money(unit) => f.write_str(&dollars(round_up(nanos))),
            (unit::CONCURRENT, 1) => f.write_str("1 call"),
            (unit::CONCURRENT, value) => write!(f, "{} calls", grouped(value)),
            (unit, 1) => write!(f, "1 {}", singular(unit)),
            (unit, value) => write!(f, "{} {}", grouped(value), plural(unit)),
        }
    }
}

impl Quantity<'_> {
    /// What is left of a cap when so much is used, for a column beside [`figure`](Self::figure): the columns add up.
    #[must_use]
    pub fn left_of(&self, cap: i64) -> String {
        let used = if unit::is_money(self.unit) { round_up(self.value) } else { self.value };
        let left = cap.saturating_sub(used).max(0);
        if unit::is_money(self.unit) { dollars(left) } else { grouped(left) }
    }

    /// Without the unit's name, for columns: `1,200`, `$0.05`.
    #[must_use]
    pub fn figure(&self) -> String {
        if unit::is_money(self.unit) { dollars(round_up(self.value)) } else { grouped(self.value) }
    }
}

/// A unit's name as a word: `chat request`.
fn singular(name: &str) -> String {
    name.replace('_', " ")
}

/// Several of a unit, whoever named it: `chat requests`, `tasks`, `web searches`.
pub(crate) fn plural(name: &str) -> String {
    let word = singular(name);
    let hisses = ["s", "x", "ch", "sh"].iter().any(|end| word.ends_with(end));
    word + if hisses { "es" } else { "s" }
}

/// To a cent, below ten cents to two digits. Up, so that what is used and what is asked for never seem to fit.
pub(crate) fn round_up(nanos: i64) -> i64 {
    const CENT: i64 = 10_000_000;
    let mut step = CENT;
    while step > 1 && nanos < 10 * step {
        step /= 10;
    }
    nanos.checked_add(step - 1).map_or(nanos, |sum| sum.div_euclid(step) * step)
}

/// `$100`, `$2.50`, `$0.0013`.
pub(crate) fn dollars(nanos: i64) -> String {
    let text = NanoUsd(nanos).to_string();
    match text.split_once('.') {
        Some((_, decimals)) if decimals.len() == 1 => text + "0",
        _ => text,
    }
}

/// `1,234,567`.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span for people, rounded up: `12 s`, `5 min`, `3 hours`, `29 days`.
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_millis().div_ceil(1000);
        match seconds {
            0..120 => write!(f, "{} s", seconds.max(1)),
            120..7_200 => write!(f, "{} min", seconds.div_ceil(60)),
            7_200..172_800 => write!(f, "{} hours", seconds.div_ceil(3_600)),
            _ => write!(f, "{} days", seconds.div_ceil(86_400)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn amounts_are_told_with_their_units() {
        let told = |unit, value| Quantity { unit, value }.to_string();
        assert_eq!(
            [
                told("token", 1_200),
                told("token", 1),
                told("request", 1),
                told("concurrent", 2),
                told("input_token", 1),
                told("image", 3),
                told("nano_usd", 50_000_000),
            ],
            ["1,200 tokens", "1 token", "1 request", "2 calls", "1 input token", "3 images", "$0.05"]
        );
        assert_eq!(told("web_search", 1) + " of " + &told("web_search", 5), "1 web search of 5 web searches");
        assert_eq!(Quantity { unit: "token", value: 1_200 }.figure(), "1,200");
        let used = Quantity { unit: "nano_usd", value: 193_501 };
        assert_eq!((used.figure(), used.left_of(5_000_000_000)), ("$0.0002".to_owned(), "$4.9998".to_owned()));
        assert_eq!(Quantity { unit: "token", value: 7 }.left_of(5), "0");
        assert_eq!(Quantity { unit: "nano_usd", value: -50_000_000 }.figure(), "-$0.05");
    }

    #[test]
    fn money_is_rounded_up_and_never_seems_to_fit() {
        let shown = |nanos| dollars(round_up(nanos));
        assert_eq!(
            [shown(0), shown(1), shown(123), shown(1_250_000), shown(99_844_000_000), shown(99_999_999_999)],
            ["$0", "$0.000000001", "$0.00000013", "$0.0013", "$99.85", "$100"]
        );
        assert_eq!(shown(i64::MAX), dollars(i64::MAX));
    }

    #[test]
    fn spans_are_rounded_up() {
        let of = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(
            [of(0), of(119), of(121), of(7_201), of(2 * DAY + 1), of(29 * DAY)],
            ["1 s", "119 s", "3 min", "3 hours", "3 days", "29 days"]
        );
    }
}
