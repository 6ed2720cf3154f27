//! Durations as people write them: `"250ms"`, `"5s"`, `"1h30m"`, `"30d"`. For `#[serde(with = "weir_config::duration")]`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de};

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a number and a unit (ms, s, m, h, d), such as \"250ms\", \"5s\" or \"1h30m\"")]
pub struct InvalidDuration;

/// Reads a duration; only `"0"` may lack a unit.
///
/// # Errors
/// [`InvalidDuration`] when it is none, or longer than 584 years.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
        let number: u64 = rest[..digits].parse().map_err(|_| InvalidDuration)?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or(InvalidDuration)?;
        rest = &rest[letters..];
        nanoseconds =
            number.checked_mul(*unit).and_then(|part| nanoseconds.checked_add(part)).ok_or(InvalidDuration)?;
    }
    if text.is_empty() { Err(InvalidDuration) } else { Ok(Duration::from_nanos(nanoseconds)) }
}

/// Writes a duration in the largest unit that divides it.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let fitting = UNITS.iter().rev().find(|(_, unit)| nanoseconds.is_multiple_of(u128::from(*unit)));
    fitting.map_or_else(String::new, |(name, unit)| format!("{}{name}", nanoseconds / u128::from(*unit)))
}

/// For serde's `with`.
///
/// # Errors
/// When the value is not a string that [`parse`] reads.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// For serde's `with`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{InvalidDuration, format, parse};

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, duration) in [
            ("250ms", Duration::from_millis(250)),
            ("5s", Duration::from_secs(5)),
            ("1h30m", Duration::from_secs(5_400)),
            ("30d", Duration::from_secs(30 * 86_400)),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Ok(duration), "{text}");
            assert_eq!(parse(&format(duration)), Ok(duration), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "5S", "1.5s", "5sec", "99999999999d", "5s3"] {
            assert_eq!(parse(text), Err(InvalidDuration), "{text}");
        }
    }
}
