//! Money: integer nano-USD, never a float.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

/// A sum does not fit into 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount is too large")]
pub struct Overflow;

/// Text that is not a sum of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sum in US dollars: expected digits with at most nine decimals, such as 2.50")]
pub struct InvalidUsd(pub String);

const NANOS: i64 = 1_000_000_000;

/// A sum in billionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of two.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// The difference of two.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_sub(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
    }

    /// Reads dollars: `19`, `0.000125`, `-2.50`.
    ///
    /// # Errors
    /// Anything that is not digits with at most nine decimals, or too large.
    pub fn from_usd_str(text: &str) -> Result<Self, InvalidUsd> {
        let invalid = || InvalidUsd(text.chars().take(64).collect());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
            return Err(invalid());
        }
        let whole: i64 = whole.parse().map_err(|_| invalid())?;
        let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
        let nanos = whole.checked_mul(NANOS).and_then(|n| n.checked_add(fraction)).ok_or_else(invalid)?;
        Ok(Self(if negative { -nanos } else { nanos }))
    }

    /// Dollars as a plain decimal, without a sign of the currency: `0.00125`.
    #[must_use]
    pub fn to_usd_string(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let text = format!("{sign}{}.{:09}", nanos / NANOS.unsigned_abs(), nanos % NANOS.unsigned_abs());
        let trimmed = text.trim_end_matches('0').trim_end_matches('.');
        trimmed.to_owned()
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_usd_string().strip_prefix('-') {
            Some(dollars) => write!(f, "-${dollars}"),
            None => write!(f, "${}", self.to_usd_string()),
        }
    }
}

impl Sum for NanoUsd {
    /// Saturates: sums of what is stored can't come near the bound, and a total must not panic.
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.fold(0i64, |total, item| total.saturating_add(item.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        assert_eq!(NanoUsd::from_usd_str("2.50"), Ok(NanoUsd(2_500_000_000)));
        assert_eq!(NanoUsd::from_usd_str("0.000000001"), Ok(NanoUsd(1)));
        assert_eq!(NanoUsd::from_usd_str("-3"), Ok(NanoUsd(-3_000_000_000)));
        for bad in ["", ".", "1.", ".5", "1e3", "0.0000000001", "1,000", "$1", "99999999999999999999"] {
            assert!(NanoUsd::from_usd_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_are_shown_without_needless_zeros() {
        assert_eq!(NanoUsd(1_250_000).to_string(), "$0.00125");
        assert_eq!(NanoUsd(-19_000_000_000).to_string(), "-$19");
        assert_eq!(NanoUsd::ZERO.to_string(), "$0");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(nanos in -i64::MAX..i64::MAX) {
            prop_assert_eq!(NanoUsd::from_usd_str(&NanoUsd(nanos).to_usd_string()), Ok(NanoUsd(nanos)));
        }
    }
}
