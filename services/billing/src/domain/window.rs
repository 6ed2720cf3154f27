//! Over what time a limit counts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The longest rolling window: longer ones are months.
pub(crate) const MAX_ROLLING: Duration = Duration::from_secs(31 * 86_400);

/// Over what time a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Window {
    /// Any span of this length.
    Rolling(Duration),
    /// A calendar unit in a time zone.
    Calendar(CalendarUnit, Tz),
    /// Months counted from an instant, in a time zone. Without one: from the subscription's start.
    Anchored(Option<DateTime<Utc>>, Tz),
    /// Never resets.
    Lifetime,
    /// What is held at one moment.
    Concurrent,
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CalendarUnit {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

impl CalendarUnit {
    /// Reads `minute`, `hour`, `day`, `month`.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "minute" => Some(Self::Minute),
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            "month" => Some(Self::Month),
            _ => None,
        }
    }
}

/// Reads the IANA name of a time zone; empty is UTC.
///
/// # Errors
/// When there is no such zone.
pub(crate) fn time_zone(name: &str) -> Result<Tz, String> {
    if name.is_empty() {
        return Ok(Tz::UTC);
    }
    name.parse().map_err(|_| format!("`{name}` is not an IANA time zone such as Europe/Berlin"))
}

impl Window {
    /// What is wrong with it by itself.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Rolling(span) if *span < Duration::from_secs(1) => Some("a rolling window is at least a second long"),
            Self::Rolling(span) if *span > MAX_ROLLING => Some("a rolling window is at most 31 days long"),
            _ => None,
        }
    }

    /// The same window, counted from the subscription's `start` if it is anchored and has no anchor of its own.
    #[must_use]
    pub(crate) fn anchored_at(&self, start: DateTime<Utc>) -> Self {
        match self {
            Self::Anchored(anchor, zone) => Self::Anchored(Some(anchor.unwrap_or(start)), *zone),
            other => other.clone(),
        }
    }
}
