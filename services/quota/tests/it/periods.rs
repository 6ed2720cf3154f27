use chrono::{DateTime, Datelike as _, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use proptest::prelude::*;
use weir_quota::domain::{CalendarUnit, Millis, Window};

fn millis(text: &str) -> Millis {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

fn text(instant: Millis) -> String {
    DateTime::from_timestamp_millis(instant).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn period(window: &Window, at: &str) -> (String, String) {
    let period = window.period(millis(at)).unwrap();
    (text(period.start), text(period.end))
}

fn pair(start: &str, end: &str) -> (String, String) {
    (start.to_owned(), end.to_owned())
}

const PARIS: Tz = Tz::Europe__Paris;

#[test]
fn a_day_has_23_or_25_hours_when_the_clocks_change() {
    let day = Window::Calendar(CalendarUnit::Day, PARIS);
    let spring = period(&day, "2026-03-29T10:00:00Z");
    assert_eq!(spring, pair("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"));
    let autumn = period(&day, "2026-10-25T10:00:00Z");
    assert_eq!(autumn, pair("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"));
}

#[test]
fn midnights_that_do_not_exist_or_exist_twice_are_boundaries_once() {
    // In Beirut 2022-03-27 began at 01:00, in Havana 2022-11-06 had two midnights.
    let beirut = Window::Calendar(CalendarUnit::Day, Tz::Asia__Beirut);
    assert_eq!(period(&beirut, "2022-03-27T12:00:00Z"), pair("2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z"));
    let havana = Window::Calendar(CalendarUnit::Day, Tz::America__Havana);
    assert_eq!(period(&havana, "2022-11-06T12:00:00Z"), pair("2022-11-06T04:00:00Z", "2022-11-07T05:00:00Z"));
    // Samoa had no 30 December 2011.
    let apia = Window::Calendar(CalendarUnit::Day, Tz::Pacific__Apia);
    assert_eq!(period(&apia, "2011-12-30T09:59:59Z"), pair("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"));
    assert_eq!(period(&apia, "2011-12-30T10:00:00Z"), pair("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"));
}

#[test]
fn a_month_ends_where_the_next_begins_in_its_zone() {
    let month = Window::Calendar(CalendarUnit::Month, PARIS);
    assert_eq!(period(&month, "2026-03-15T00:00:00Z"), pair("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"));
    assert_eq!(period(&month, "2024-02-29T22:59:59Z"), pair("2024-01-31T23:00:00Z", "2024-02-29T23:00:00Z"));
    let utc = Window::Calendar(CalendarUnit::Month, Tz::UTC);
    assert_eq!(period(&utc, "2026-12-31T23:59:59Z"), pair("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
}

#[test]
fn an_anchor_on_the_31st_is_clamped_and_comes_back() {
    let window = Window::Anchored(millis("2026-01-31T10:30:00Z"), Tz::UTC);
    let starts: Vec<String> = ["2026-02-10", "2026-03-10", "2026-04-10", "2026-05-10", "2026-06-10"]
        .iter()
        .map(|day| period(&window, &format!("{day}T00:00:00Z")).0)
        .collect();
    let expected = ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"];
    assert_eq!(starts, expected.map(|day| format!("{day}T10:30:00Z")));
    assert_eq!(period(&window, "2028-03-01T00:00:00Z").0, "2028-02-29T10:30:00Z");
}

#[test]
fn an_anchor_keeps_its_local_hour() {
    let window = Window::Anchored(millis("2026-01-15T08:00:00Z"), PARIS);
    assert_eq!(period(&window, "2026-07-20T00:00:00Z"), pair("2026-07-15T07:00:00Z", "2026-08-15T07:00:00Z"));
}

#[test]
fn an_hour_follows_the_local_clock() {
    let kolkata = Window::Calendar(CalendarUnit::Hour, Tz::Asia__Kolkata);
    assert_eq!(period(&kolkata, "2026-05-01T12:10:00Z"), pair("2026-05-01T11:30:00Z", "2026-05-01T12:30:00Z"));
    // Lord Howe moves by half an hour: at 15:00Z on 2026-04-04 the clock goes from 02:00 back to 01:30.
    let howe = Window::Calendar(CalendarUnit::Hour, Tz::Australia__Lord_Howe);
    assert_eq!(period(&howe, "2026-04-04T14:30:00Z"), pair("2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"));
    assert_eq!(period(&howe, "2026-04-04T15:10:00Z"), pair("2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"));
}

fn zones() -> impl Strategy<Value = Tz> {
    prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec())
}

/// 1975 to 2037: what the zones' rules cover.
fn instants() -> impl Strategy<Value = Millis> {
    157_766_400_000_i64..2_145_916_800_000
}

fn windows() -> impl Strategy<Value = Window> {
    use CalendarUnit::{Day, Hour, Minute, Month};
    let units = prop::sample::select(vec![Minute, Hour, Day, Month]);
    prop_oneof![
        (units, zones()).prop_map(|(unit, zone)| Window::Calendar(unit, zone)),
        (instants(), zones()).prop_map(|(anchor, zone)| Window::Anchored(anchor, zone)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Each instant is in exactly one period, and the next one begins where it ends.
    #[test]
    fn periods_partition_time(window in windows(), at in instants()) {
        let period = window.period(at).unwrap();
        prop_assert!(period.start <= at && at < period.end, "{at} in {period:?}");
        prop_assert_eq!(window.period(period.start).unwrap(), period);
        prop_assert_eq!(window.period(period.end - 1).unwrap(), period);
        let next = window.period(period.end).unwrap();
        prop_assert_eq!(next.start, period.end, "{:?} then {:?}", period, next);
        let before = window.period(period.start - 1).unwrap();
        prop_assert_eq!(before.end, period.start);
    }

    /// Months are as long as months are.
    #[test]
    fn anchored_months_are_28_to_31_days_long(anchor in instants(), zone in zones(), at in instants()) {
        let period = Window::Anchored(anchor, zone).period(at).unwrap();
        let hours = (period.end - period.start) / 3_600_000;
        // A zone may skip or repeat a day.
        prop_assert!((26 * 24..=33 * 24).contains(&hours), "{hours} h");
    }

    /// Wherever no clock change is near, an anchored period begins on the anchor's day or at its month's end, at its time.
    #[test]
    fn anchored_periods_begin_on_the_anchors_day(anchor in instants(), at in instants()) {
        let period = Window::Anchored(anchor, Tz::UTC).period(at).unwrap();
        let (anchor, start) = (Tz::UTC.timestamp_millis_opt(anchor).unwrap(), Tz::UTC.timestamp_millis_opt(period.start).unwrap());
        let last = Tz::UTC.timestamp_millis_opt(period.start + 86_400_000).unwrap().month() != start.month();
        prop_assert!(start.day() == anchor.day() || (last && start.day() < anchor.day()), "{anchor} {start}");
        prop_assert_eq!(start.num_seconds_from_midnight(), anchor.num_seconds_from_midnight());
    }

    /// A day in a zone is a local date: both of its ends are local midnights unless the clock skips them.
    #[test]
    fn days_are_local_dates(zone in zones(), at in instants()) {
        let period = Window::Calendar(CalendarUnit::Day, zone).period(at).unwrap();
        let local = |instant: Millis| zone.timestamp_millis_opt(instant).unwrap();
        let hours = (period.end - period.start) / 3_600_000;
        if hours == 24 {
            prop_assert_eq!(local(period.start).date_naive(), local(at).date_naive());
            prop_assert_eq!(local(period.end - 1).date_naive(), local(at).date_naive());
        }
    }
}
