//! Billing's limits.

use weir_proto::billing::v1::{self as billing, window};
use weir_types::MAX_AMOUNT;

use crate::domain::{CalendarUnit, Limit, OnFailure, Scope, Unit, Window};
use crate::error::{Error, Result};

/// Reads the limits of an organisation. One that this version does not understand is an error, never ignored: it would not limit.
pub(crate) fn limits(limits: &[billing::Limit]) -> Result<Vec<Limit>> {
    let limits: Vec<Limit> = limits.iter().map(limit).collect::<Result<_>>()?;
    for (place, limit) in limits.iter().enumerate() {
        if limits[..place].iter().any(|other| other.name == limit.name) {
            return Err(broken(&limit.name, "the name occurs twice"));
        }
    }
    Ok(limits)
}

fn limit(limit: &billing::Limit) -> Result<Limit> {
    let broken = |why| broken(&limit.name, why);
    if !weir_types::unit::is_valid(&limit.unit) {
        return Err(broken("the unit is no unit"));
    }
    if !(0..=MAX_AMOUNT).contains(&limit.amount) {
        return Err(broken("the amount is out of bounds"));
    }
    let kind = limit.window.as_ref().and_then(|window| window.kind.as_ref());
    let window = match kind.ok_or_else(|| broken("the window is unknown"))? {
        window::Kind::Rolling(span) => {
            let millis = span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos / 1_000_000));
            // Longer than a year is no rate.
            if !(1..=366 * 86_400_000).contains(&millis) {
                return Err(broken("the window's length is out of bounds"));
            }
            Window::Rolling(millis)
        }
        window::Kind::Calendar(calendar) => {
            let unit = match calendar.unit() {
                billing::CalendarUnit::Minute => CalendarUnit::Minute,
                billing::CalendarUnit::Hour => CalendarUnit::Hour,
                billing::CalendarUnit::Day => CalendarUnit::Day,
                billing::CalendarUnit::Month => CalendarUnit::Month,
                billing::CalendarUnit::Unspecified => return Err(broken("the calendar unit is unknown")),
            };
            Window::Calendar(unit, zone(&calendar.time_zone).ok_or_else(|| broken("the time zone is unknown"))?)
        }
        window::Kind::Anchored(anchored) => {
            let anchor = anchored.anchor.as_ref().ok_or_else(|| broken("the anchor is missing"))?;
            let millis = anchor.seconds.saturating_mul(1_000).saturating_add(i64::from(anchor.nanos / 1_000_000));
            Window::Anchored(millis, zone(&anchored.time_zone).ok_or_else(|| broken("the time zone is unknown"))?)
        }
        window::Kind::Lifetime(_) => Window::Lifetime,
        window::Kind::Concurrent(_) => Window::Concurrent,
    };
    let unit = Unit::parse(&limit.unit);
    if unit.is_concurrent() != (window == Window::Concurrent) {
        return Err(broken("concurrency has its own unit and window"));
    }
    Ok(Limit {
        name: limit.name.clone(),
        scope: Scope::parse(&limit.scope),
        unit,
        cap: limit.amount,
        window,
        on_failure: match limit.on_failure() {
            billing::OnFailure::Open => OnFailure::Open,
            billing::OnFailure::Local => OnFailure::Local,
            billing::OnFailure::Unspecified | billing::OnFailure::Closed => OnFailure::Closed,
        },
        alert_percents: percents(&limit.alert_percents)
            .ok_or_else(|| broken("an alert's percentage is out of bounds"))?,
    })
}

/// From 1 to 100, rising.
fn percents(percents: &[i32]) -> Option<Vec<u8>> {
    let mut read: Vec<u8> = percents
        .iter()
        .map(|percent| u8::try_from(*percent).ok().filter(|p| (1..=100).contains(p)))
        .collect::<Option<_>>()?;
    read.sort_unstable();
    read.dedup();
    Some(read)
}

fn zone(name: &str) -> Option<chrono_tz::Tz> {
    if name.is_empty() { Some(chrono_tz::UTC) } else { name.parse().ok() }
}

fn broken(name: &str, why: &str) -> Error {
    Error::Bug(format!("billing's limit {name:?}: {why}"))
}
