//! The periods of windows by their definition, computed with another calendar library and other time zone data.
//!
//! A boundary is the instant of a local time: of the first of two if it occurs twice, of the clock's change if it is left out.
//! The period of an instant reaches from the last boundary at or before it to the next.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::Millis;

const HOUR: Millis = 3_600_000;

pub(crate) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

pub(crate) fn timestamp(millis: Millis) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

pub(crate) fn local(millis: Millis, zone: &TimeZone) -> DateTime {
    zone.to_datetime(timestamp(millis))
}

/// The instant of a local time.
pub(crate) fn instant(local: DateTime, zone: &TimeZone) -> Millis {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { before, .. } => {
            // By the offset before the change it lies after the change, by less than what was left out.
            let late = before.to_timestamp(local).unwrap();
            let change = zone.preceding(late + Span::new().nanoseconds(1)).next().unwrap();
            change.timestamp().as_millisecond()
        }
        _ => ambiguous.earlier().unwrap().as_millisecond(),
    }
}

fn around(at: Millis, boundaries: impl IntoIterator<Item = Millis>) -> (Millis, Millis) {
    let mut boundaries: Vec<Millis> = boundaries.into_iter().collect();
    boundaries.sort_unstable();
    boundaries.dedup();
    let next = boundaries.partition_point(|boundary| *boundary <= at);
    (boundaries[next - 1], boundaries[next])
}

fn midnight(date: Date) -> DateTime {
    date.to_datetime(Time::midnight())
}

pub(crate) fn calendar(unit: CalendarUnit, zone: &TimeZone, at: Millis) -> (Millis, Millis) {
    let today = local(at, zone).date();
    match unit {
        CalendarUnit::Minute => {
            let offset = Millis::from(zone.to_offset(timestamp(at)).seconds()) * 1_000;
            let start = (at + offset).div_euclid(60_000) * 60_000 - offset;
            (start, start + 60_000)
        }
        CalendarUnit::Hour => hour(zone, at),
        CalendarUnit::Day => {
            around(at, (-3..=3).map(|step| instant(midnight(today.saturating_add(Span::new().days(step))), zone)))
        }
        CalendarUnit::Month => {
            let first = today.first_of_month();
            around(at, (-2..=2).map(|step| instant(midnight(first.saturating_add(Span::new().months(step))), zone)))
        }
        CalendarUnit::Unspecified => unreachable!(),
    }
}

/// Full hours of the local clock, and changes of the clock that are not by full hours.
fn hour(zone: &TimeZone, at: Millis) -> (Millis, Millis) {
    let from = timestamp(at - 6 * HOUR);
    let mut starts = vec![from];
    starts.extend(
        zone.following(from).map(|change| change.timestamp()).take_while(|change| *change <= timestamp(at + 6 * HOUR)),
    );
    let offset = |start: &Timestamp| Millis::from(zone.to_offset(*start).seconds()) * 1_000;
    let mut boundaries = Vec::new();
    for (place, start) in starts.iter().enumerate() {
        let end = starts.get(place + 1).map_or(at + 6 * HOUR, |next| next.as_millisecond());
        let begin = start.as_millisecond();
        let first = (begin + offset(start)).div_euclid(HOUR) * HOUR - offset(start);
        boundaries.extend((0..=24).map(|n| first + n * HOUR).filter(|full| (begin..end).contains(full)));
        if place > 0 && (offset(start) - offset(&starts[place - 1])) % HOUR != 0 {
            boundaries.push(begin);
        }
    }
    around(at, boundaries)
}

/// Months from an instant, on its day or the last one of a shorter month.
pub(crate) fn anchored(anchor: Millis, zone: &TimeZone, at: Millis) -> (Millis, Millis) {
    let (from, to) = (local(anchor, zone), local(at, zone));
    let passed = (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month()) - i64::from(from.month());
    let boundary = |step: i64| match step {
        0 => anchor,
        _ => instant(from.saturating_add(Span::new().months(step)), zone),
    };
    around(at, (passed - 2..=passed + 2).map(boundary))
}
