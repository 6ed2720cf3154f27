//! Calendar and anchored periods in time zones.
//!
//! The periods of a window partition time: each instant is in exactly one, whatever clocks are put forward, back, or over a whole
//! day. A local time that a clock change leaves out stands for the instant of the change; one that occurs twice, for the first.

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use super::{CalendarUnit, Millis, Window};

/// `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its first millisecond.
    pub start: Millis,
    /// The first millisecond after it.
    pub end: Millis,
}

/// The period of a window that never resets.
pub const FOREVER: Period = Period { start: 0, end: weir_types::MAX_AMOUNT };

const MINUTE: Millis = 60_000;
const HOUR: Millis = 3_600_000;

impl Period {
    /// Whether the instant is inside.
    #[must_use]
    pub const fn contains(&self, instant: Millis) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl Window {
    /// The period that the instant is in; none for windows that have no fixed ones.
    #[must_use]
    pub fn period(&self, instant: Millis) -> Option<Period> {
        match self {
            Self::Rolling(_) | Self::Concurrent => None,
            Self::Lifetime => Some(FOREVER),
            // Offsets are whole minutes everywhere since 1972, so minutes are the same everywhere.
            Self::Calendar(CalendarUnit::Minute, _) => {
                let start = instant.div_euclid(MINUTE) * MINUTE;
                Some(Period { start, end: start + MINUTE })
            }
            Self::Calendar(CalendarUnit::Hour, zone) => Some(hour(instant, *zone)),
            Self::Calendar(CalendarUnit::Day, zone) => {
                let date = local(instant, *zone).date();
                let boundary = |step: i32| {
                    let days = Days::new(step.unsigned_abs().into());
                    let date = if step < 0 { date.checked_sub_days(days) } else { date.checked_add_days(days) };
                    resolve(date.unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN), *zone)
                };
                Some(between(instant, boundary))
            }
            Self::Calendar(CalendarUnit::Month, zone) => {
                let first = local(instant, *zone).date().with_day(1).unwrap_or(NaiveDate::MIN);
                Some(between(instant, |step| resolve(months_after(first.and_time(NaiveTime::MIN), step), *zone)))
            }
            Self::Anchored(anchor, zone) => {
                let (anchor_local, now_local) = (local(*anchor, *zone), local(instant, *zone));
                let passed = (now_local.year() - anchor_local.year()) * 12
                    + i32::try_from(now_local.month()).unwrap_or(0)
                    - i32::try_from(anchor_local.month()).unwrap_or(0);
                Some(between(instant, |step| {
                    // The anchor's own local time may occur twice: it is the instant that was given.
                    if passed + step == 0 { *anchor } else { resolve(months_after(anchor_local, passed + step), *zone) }
                }))
            }
        }
    }
}

/// The period around `instant` among boundaries that rise with `step`, of which the one at 0 is near.
fn between(instant: Millis, boundary: impl Fn(i32) -> Millis) -> Period {
    let mut step = 1;
    while boundary(step) > instant && step > -3 {
        step -= 1;
    }
    while boundary(step + 1) <= instant && step < 3 {
        step += 1;
    }
    Period { start: boundary(step), end: boundary(step + 1) }
}

fn local(instant: Millis, zone: Tz) -> NaiveDateTime {
    let utc = DateTime::from_timestamp_millis(instant).unwrap_or(DateTime::UNIX_EPOCH);
    utc.with_timezone(&zone).naive_local()
}

fn offset(instant: Millis, zone: Tz) -> Millis {
    let utc = DateTime::from_timestamp_millis(instant).unwrap_or(DateTime::UNIX_EPOCH).naive_utc();
    Millis::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1_000
}

/// `step` months later, on the same day or the last one of a shorter month.
fn months_after(from: NaiveDateTime, step: i32) -> NaiveDateTime {
    let months = Months::new(step.unsigned_abs());
    let moved = if step < 0 { from.checked_sub_months(months) } else { from.checked_add_months(months) };
    moved.unwrap_or(from)
}

/// The instant of a local time.
fn resolve(local: NaiveDateTime, zone: Tz) -> Millis {
    if let Some(instant) = zone.from_local_datetime(&local).earliest() {
        return instant.timestamp_millis();
    }
    // A gap: the clock was put forward over this time. The change is where the offset stops being what it was before.
    let utc = local.and_utc().timestamp_millis();
    let before = utc - 36 * HOUR;
    change(before, utc + 36 * HOUR, zone)
}

/// The first instant in `(from, to]` whose offset differs from the one at `from`; `to` must have another.
fn change(from: Millis, to: Millis, zone: Tz) -> Millis {
    let before = offset(from, zone);
    let (mut low, mut high) = (from, to);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(middle, zone) == before { low = middle } else { high = middle }
    }
    high
}

/// From full hour to full hour on the local clock; a change of the offset by less than an hour is a boundary, too.
fn hour(instant: Millis, zone: Tz) -> Period {
    let here = offset(instant, zone);
    let into = (instant + here).rem_euclid(HOUR);
    let (mut start, mut end) = (instant - into, instant - into + HOUR);
    if (offset(start, zone) - here) % HOUR != 0 {
        start = change(start, instant, zone);
    }
    if (offset(end, zone) - here) % HOUR != 0 {
        end = change(instant, end, zone);
    }
    Period { start, end }
}
