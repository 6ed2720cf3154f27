//! What is limited, and over what time.

use std::fmt;
use std::str::FromStr;

use chrono_tz::Tz;

use super::shared::SharedScope;
use super::{Millis, Unit};

/// The number that a limit's identity has in this deployment; see [`CounterKey`].
pub type LimitId = u32;

/// At most `cap` of a unit, per subject and window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Unique in a plan.
    pub name: String,
    /// Whose counter it is.
    pub scope: Scope,
    /// What is counted.
    pub unit: Unit,
    /// Not negative, at most 2^53 - 1.
    pub cap: i64,
    /// Over what time.
    pub window: Window,
    /// What to do while the fast store does not answer.
    pub on_failure: OnFailure,
    /// At which percentages of the cap to warn: from 1 to 100, rising.
    pub alert_percents: Vec<u8>,
}

/// By what a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The tenant as a whole.
    Organization,
    /// Each user.
    User,
    /// Each API key.
    ApiKey,
    /// Each address.
    Ip,
    /// Each anonymous visitor.
    Visitor,
    /// Each value of a label of the request.
    Label(String),
    /// Across tenants.
    Shared(SharedScope),
}

impl Scope {
    /// As plans spell it, and Postgres keeps it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
            Self::ApiKey => "api_key",
            Self::Ip => "ip",
            Self::Visitor => "visitor",
            Self::Label(name) => name,
            Self::Shared(scope) => scope.stored(),
        }
    }

    /// As clients are told.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Shared(scope) => scope.name(),
            other => other.as_str(),
        }
    }

    /// Reads [`as_str`](Self::as_str) back; any other name is a label's. No label's name has a colon, so none is across tenants.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "organization" => Self::Organization,
            "user" => Self::User,
            "api_key" => Self::ApiKey,
            "ip" => Self::Ip,
            "visitor" => Self::Visitor,
            label => match SharedScope::from_stored(label) {
                Some(scope) => Self::Shared(scope),
                None => Self::Label(label.to_owned()),
            },
        }
    }
}

/// Over what time a limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// Any span of this many milliseconds.
    Rolling(Millis),
    /// A calendar unit in a time zone.
    Calendar(CalendarUnit, Tz),
    /// Months counted from an instant; the 31st is clamped to a shorter month's end.
    Anchored(Millis, Tz),
    /// Never resets.
    Lifetime,
    /// What is held at one moment.
    Concurrent,
}

impl Window {
    /// The part of it that belongs to a counter's identity. Anchor and time zone don't: they are in the period's start.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Rolling(length) => Kind::Rolling(*length),
            Self::Calendar(unit, _) => Kind::Calendar(*unit),
            Self::Anchored(..) => Kind::Anchored,
            Self::Lifetime => Kind::Lifetime,
            Self::Concurrent => Kind::Concurrent,
        }
    }
}

/// A calendar unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CalendarUnit {
    /// 60 s.
    Minute,
    /// From full hour to full hour on the zone's clock.
    Hour,
    /// From midnight to midnight, 23 to 25 hours.
    Day,
    /// From the first to the first.
    Month,
}

/// What to do while the fast store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Refuse.
    Closed,
    /// Admit.
    Open,
    /// Admit a small share of the cap in each process.
    Local,
}

/// The kind of a window, as far as it tells counters apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of this many milliseconds.
    Rolling(Millis),
    /// Of this unit.
    Calendar(CalendarUnit),
    /// Monthly from an anchor.
    Anchored,
    /// Never resets.
    Lifetime,
    /// Live leases.
    Concurrent,
}

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

impl Kind {
    /// Whether the committed totals of such a counter live in Postgres: all money, and every window that is long enough to
    /// be missed after a loss of the fast store.
    #[must_use]
    pub fn is_durable(self, unit: &Unit) -> bool {
        match self {
            Self::Concurrent => false,
            Self::Calendar(CalendarUnit::Day | CalendarUnit::Month) | Self::Anchored | Self::Lifetime => true,
            Self::Rolling(length) => length >= HOUR || unit.is_money(),
            Self::Calendar(CalendarUnit::Minute | CalendarUnit::Hour) => unit.is_money(),
        }
    }

    /// After how long a period that began (for rolling windows: a bucket that ended) can't matter any more.
    #[must_use]
    pub const fn longest(self) -> Option<Millis> {
        match self {
            Self::Rolling(length) => Some(length),
            Self::Calendar(CalendarUnit::Minute) => Some(60_000),
            Self::Calendar(CalendarUnit::Hour) => Some(2 * HOUR),
            Self::Calendar(CalendarUnit::Day) => Some(50 * HOUR),
            Self::Calendar(CalendarUnit::Month) | Self::Anchored => Some(33 * DAY),
            Self::Lifetime | Self::Concurrent => None,
        }
    }

    /// Whether it counts in buckets that leave one by one.
    #[must_use]
    pub const fn is_rolling(self) -> bool {
        matches!(self, Self::Rolling(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(length) => write!(f, "rolling:{length}"),
            Self::Calendar(CalendarUnit::Minute) => f.write_str("calendar:minute"),
            Self::Calendar(CalendarUnit::Hour) => f.write_str("calendar:hour"),
            Self::Calendar(CalendarUnit::Day) => f.write_str("calendar:day"),
            Self::Calendar(CalendarUnit::Month) => f.write_str("calendar:month"),
            Self::Anchored => f.write_str("anchored"),
            Self::Lifetime => f.write_str("lifetime"),
            Self::Concurrent => f.write_str("concurrent"),
        }
    }
}

/// A stored kind that this version can't read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of window")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Ok(match text {
            "calendar:minute" => Self::Calendar(CalendarUnit::Minute),
            "calendar:hour" => Self::Calendar(CalendarUnit::Hour),
            "calendar:day" => Self::Calendar(CalendarUnit::Day),
            "calendar:month" => Self::Calendar(CalendarUnit::Month),
            "anchored" => Self::Anchored,
            "lifetime" => Self::Lifetime,
            "concurrent" => Self::Concurrent,
            other => {
                let length = other.strip_prefix("rolling:").and_then(|length| length.parse().ok());
                Self::Rolling(length.ok_or_else(|| UnknownKind(other.to_owned()))?)
            }
        })
    }
}

/// What tells the counters of one limit from those of another, whatever the cap is at the moment. Each has a number
/// ([`LimitId`]) in this deployment, which keeps keys and handles short; a limit whose cap changes keeps its counters, one
/// whose unit or window changes gets new ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CounterKey {
    /// The limit's name.
    pub name: String,
    /// By what it counts.
    pub scope: Scope,
    /// What it counts.
    pub unit: Unit,
    /// Over what kind of window.
    pub kind: Kind,
}

impl CounterKey {
    /// Whether its committed totals live in Postgres.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.kind.is_durable(&self.unit)
    }
}

impl From<&Limit> for CounterKey {
    fn from(limit: &Limit) -> Self {
        Self {
            name: limit.name.clone(),
            scope: limit.scope.clone(),
            unit: limit.unit.clone(),
            kind: limit.window.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        use CalendarUnit::{Day, Hour, Minute, Month};
        for kind in [
            Kind::Rolling(60_000),
            Kind::Calendar(Minute),
            Kind::Calendar(Hour),
            Kind::Calendar(Day),
            Kind::Calendar(Month),
            Kind::Anchored,
            Kind::Lifetime,
            Kind::Concurrent,
        ] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("rolling:x".parse::<Kind>().is_err());
    }

    #[test]
    fn money_and_long_windows_are_durable_and_rates_are_not() {
        let (money, tokens) = (Unit::parse("nano_usd"), Unit::parse("token"));
        assert!(Kind::Rolling(1_000).is_durable(&money) && !Kind::Rolling(1_000).is_durable(&tokens));
        assert!(Kind::Calendar(CalendarUnit::Day).is_durable(&tokens));
        assert!(!Kind::Concurrent.is_durable(&money));
    }
}
