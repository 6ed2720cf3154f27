//! Amounts of units.

use std::borrow::Cow;
use std::fmt;

use weir_types::{MAX_AMOUNT, unit};

/// The name of what is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit(Cow<'static, str>);

/// Their places are written down in handles: new ones come last.
const KNOWN: [&str; 11] = [
    unit::REQUEST,
    unit::INPUT_TOKEN,
    unit::OUTPUT_TOKEN,
    unit::TOKEN,
    unit::NANO_USD,
    unit::CONCURRENT,
    unit::CHAT_REQUEST,
    unit::EMBEDDING_REQUEST,
    unit::TRANSCRIPTION_REQUEST,
    unit::SPEECH_REQUEST,
    unit::IMAGE_REQUEST,
];

impl Unit {
    /// Takes a name as it is; the well-known ones cost no allocation.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match KNOWN.iter().find(|known| **known == name) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(name.to_owned())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The place among the well-known units, for compact encodings.
    pub(super) fn code(&self) -> Option<u8> {
        KNOWN.iter().position(|known| *known == self.0).and_then(|place| u8::try_from(place).ok())
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        KNOWN.get(usize::from(code)).map(|name| Self(Cow::Borrowed(name)))
    }

    /// Whether it is money, ours or that of whoever brought a key.
    #[must_use]
    pub fn is_money(&self) -> bool {
        unit::is_money(&self.0)
    }

    /// Whether it counts what is under way.
    #[must_use]
    pub fn is_concurrent(&self) -> bool {
        self.0 == unit::CONCURRENT
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Amounts of different units, ordered by unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amounts(Vec<(Unit, i64)>);

/// More units than a request can sensibly name.
const MAX_UNITS: usize = 16;

/// Why a list of amounts was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmounts {
    /// Not the name of a unit.
    #[error("{0:?} is no unit: it must match [a-z][a-z0-9_]{{0,62}}")]
    Unit(String),
    /// Named twice.
    #[error("{0} is named twice")]
    Twice(Unit),
    /// Negative or too large.
    #[error("{0} must be from 0 to 2^53 - 1")]
    Value(Unit),
    /// A reservation is one call under way.
    #[error("concurrent must be 0 or 1: a reservation is one call under way")]
    Concurrent,
    /// Too many.
    #[error("at most 16 units")]
    TooMany,
}

impl Amounts {
    /// Checks and sorts.
    ///
    /// # Errors
    /// Names the first amount that is wrong.
    pub fn new<'a>(amounts: impl IntoIterator<Item = (&'a str, i64)>) -> Result<Self, InvalidAmounts> {
        let mut list: Vec<(Unit, i64)> = Vec::new();
        for (name, value) in amounts {
            if !unit::is_valid(name) {
                return Err(InvalidAmounts::Unit(name.chars().take(64).collect()));
            }
            let unit = Unit::parse(name);
            if !(0..=MAX_AMOUNT).contains(&value) {
                return Err(InvalidAmounts::Value(unit));
            }
            if unit.is_concurrent() && value > 1 {
                return Err(InvalidAmounts::Concurrent);
            }
            if list.len() == MAX_UNITS {
                return Err(InvalidAmounts::TooMany);
            }
            list.push((unit, value));
        }
        list.sort_unstable();
        if let Some(pair) = list.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidAmounts::Twice(pair[0].0.clone()));
        }
        Ok(Self(list))
    }

    /// How much of a unit, if it is named.
    #[must_use]
    pub fn get(&self, unit: &Unit) -> Option<i64> {
        self.0.iter().find(|(name, _)| name == unit).map(|(_, value)| *value)
    }

    /// These, with those of `others` in place of their own.
    ///
    /// # Errors
    /// When they are too many units.
    pub fn with(&self, others: &Self) -> Result<Self, InvalidAmounts> {
        let kept = self.0.iter().filter(|(unit, _)| others.get(unit).is_none());
        let mut list: Vec<_> = kept.chain(&others.0).cloned().collect();
        if list.len() > MAX_UNITS {
            return Err(InvalidAmounts::TooMany);
        }
        list.sort_unstable();
        Ok(Self(list))
    }

    /// By how much they are more than `others`, where they are, and what those do not have at all: a limit may count 0 of it.
    #[must_use]
    pub fn beyond(&self, others: &Self) -> Self {
        let more = self.0.iter().map(|(unit, amount)| (unit.clone(), amount - others.get(unit).unwrap_or(0)));
        Self(more.filter(|(unit, amount)| *amount > 0 || others.get(unit).is_none()).collect())
    }

    /// All of them, ordered by unit.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Unit, i64)> {
        self.0.iter().map(|(unit, value)| (unit, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_no_script_could_add_are_refused() {
        let refused = |list: &[(&str, i64)]| Amounts::new(list.iter().copied()).unwrap_err();
        assert_eq!(refused(&[("token", 1 << 53)]), InvalidAmounts::Value(Unit::parse("token")));
        assert_eq!(refused(&[("token", -1)]), InvalidAmounts::Value(Unit::parse("token")));
        assert_eq!(refused(&[("token", 1), ("token", 1)]), InvalidAmounts::Twice(Unit::parse("token")));
        assert_eq!(refused(&[("concurrent", 2)]), InvalidAmounts::Concurrent);
        assert!(matches!(refused(&[("Token", 2)]), InvalidAmounts::Unit(_)));
        assert!(Amounts::new([("token", MAX_AMOUNT)]).is_ok());
    }

    #[test]
    fn what_grows_is_what_is_more_and_what_was_not_there() {
        let of = |list: &[(&str, i64)]| Amounts::new(list.iter().copied()).unwrap();
        let whole = of(&[("request", 1), ("token", 30), ("image", 0)]);
        assert_eq!(whole.beyond(&of(&[("request", 1), ("token", 10)])), of(&[("token", 20), ("image", 0)]));
        assert_eq!(whole.beyond(&whole), Amounts::default());
    }
}
