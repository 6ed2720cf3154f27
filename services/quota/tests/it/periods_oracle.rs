//! Every period against an oracle that shares neither code nor time zone data with the engine.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use weir_proto::billing::v1::CalendarUnit as Unit;
use weir_quota::domain::{CalendarUnit, Millis, Window};

use crate::oracle::{anchored, calendar, instant, local, timestamp, zone};

/// 1972, when the last zone gave up offsets of odd seconds, to the end of 2037, where the zones' data ends.
const FROM: Millis = 65_750_400_000;
const TO: Millis = 2_145_916_800_000;
const DAY: Millis = 86_400_000;

const UNITS: [(Unit, CalendarUnit); 4] = [
    (Unit::Minute, CalendarUnit::Minute),
    (Unit::Hour, CalendarUnit::Hour),
    (Unit::Day, CalendarUnit::Day),
    (Unit::Month, CalendarUnit::Month),
];

/// Zones of every kind of rule: changes by an hour and by half of one, at midnight, southern summers, skipped and repeated days,
/// offsets that a law changed, offsets of quarters of an hour.
const ZONES: [&str; 24] = [
    "UTC",
    "Europe/Paris",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Moscow",
    "Europe/Istanbul",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Caracas",
    "America/Sao_Paulo",
    "America/Asuncion",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Amman",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Australia/Eucla",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Chatham",
    "Africa/Casablanca",
];

/// Where both sets of data tell the same time around an instant, day by day and at each change of the clock: a law that only one of
/// them has heard of is no defect.
fn agree(name: &str, zone: &TimeZone, at: Millis) -> bool {
    use chrono::Offset as _;
    let theirs: chrono_tz::Tz = name.parse().unwrap();
    let same = |at: Millis| {
        let utc = chrono::DateTime::from_timestamp_millis(at).unwrap().naive_utc();
        let offset = chrono::TimeZone::offset_from_utc_datetime(&theirs, &utc).fix().local_minus_utc();
        offset == zone.to_offset(timestamp(at)).seconds()
    };
    let changes = zone.following(timestamp(at - 70 * DAY)).map(|change| change.timestamp().as_millisecond());
    (-70..=70).all(|days| same(at + days * DAY))
        && changes.take_while(|change| *change <= at + 70 * DAY).all(|change| same(change - 1) && same(change))
}

fn engine(window: &Window, at: Millis) -> (Millis, Millis) {
    let period = window.period(at).unwrap();
    (period.start, period.end)
}

/// All windows of a zone at an instant, and anchored ones by the given anchors; the data must [`agree`] at both.
fn compare(name: &str, zone: &TimeZone, at: Millis, anchors: &[Millis]) {
    let tz: chrono_tz::Tz = name.parse().unwrap();
    for (unit, ours) in UNITS {
        let window = Window::Calendar(ours, tz);
        assert_eq!(engine(&window, at), calendar(unit, zone, at), "{window:?} at {}", timestamp(at));
    }
    for anchor in anchors {
        let window = Window::Anchored(*anchor, tz);
        let expected = anchored(*anchor, zone, at);
        assert_eq!(engine(&window, at), expected, "{window:?} ({}) at {}", timestamp(*anchor), timestamp(at));
    }
}

/// An anchor on a month's last days, at an hour that clocks like to leave out.
fn at_the_end_of_a_month(zone: &TimeZone, near: Millis, day: i8) -> Millis {
    let here = local(near, zone);
    let day = day.min(here.date().days_in_month());
    let date = here.date().with().day(day).build().unwrap();
    instant(date.at(2, 30, 0, 0), zone)
}

/// Around every change of every clock of these zones: the instant before, of, and after it, hours and days beside it.
#[test]
fn around_every_change_of_a_clock_the_oracle_agrees() {
    let (mut changes, mut compared) = (0, 0);
    for name in ZONES {
        let zone = zone(name);
        for change in zone.following(timestamp(FROM)) {
            let change = change.timestamp().as_millisecond();
            if change > TO {
                break;
            }
            changes += 1;
            let anchors = [29, 30, 31].map(|day| at_the_end_of_a_month(&zone, change - 45 * DAY, day));
            if !agree(name, &zone, change) {
                continue;
            }
            compared += 1;
            for beside in [-DAY, -3_600_000, -1_800_000, -1, 0, 1, 1_799_999, 1_800_000, 3_600_000, DAY] {
                compare(name, &zone, change + beside, &anchors);
            }
        }
    }
    assert!(changes > 1_700 && compared * 100 > changes * 98, "{compared} of {changes} compared");
}

/// The ends of all months of 66 years, leap years among them: the last and the first millisecond, with anchors on the 28th to 31st.
#[test]
fn at_the_end_of_every_month_the_oracle_agrees() {
    for name in ["UTC", "Europe/Paris", "Australia/Lord_Howe", "Pacific/Apia"] {
        let zone = zone(name);
        let anchors = [28, 29, 30, 31].map(|day| at_the_end_of_a_month(&zone, 1_706_700_000_000, day));
        let mut at = calendar(Unit::Month, &zone, FROM).1;
        while at < TO {
            assert!(agree(name, &zone, at));
            for beside in [-DAY, -1, 0, 1, DAY] {
                compare(name, &zone, at + beside, &anchors);
            }
            at = calendar(Unit::Month, &zone, at).1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn anywhere_in_any_zone_the_oracle_agrees(
        tz in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        at in FROM..TO,
        anchor in FROM..TO,
        day in 28_i8..=31,
    ) {
        // Names that one set of data has given up are the other's business.
        if let Ok(zone) = TimeZone::get(tz.name())
            && [at, anchor].into_iter().all(|at| agree(tz.name(), &zone, at))
        {
            compare(tz.name(), &zone, at, &[anchor, at_the_end_of_a_month(&zone, anchor, day)]);
        }
    }
}
