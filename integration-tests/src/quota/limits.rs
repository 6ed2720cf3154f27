//! Limits that fit exactly so many requests, in every unit and window.

use chrono::{Timelike as _, Utc};
use weir_proto::billing::v1::{
    CalendarUnit, CalendarWindow, Concurrent, Lifetime, Limit, OnFailure, Window, window::Kind,
};
use weir_proto::common::v1::Amount;

/// A kind of budget: what each request asks for, and the limits that stop it.
#[derive(Debug, Clone)]
pub struct Budget {
    /// For reports.
    pub name: String,
    /// How many requests fit.
    pub fits: usize,
    /// What each asks for.
    pub amounts: Vec<Amount>,
    /// The limits.
    pub limits: Vec<Limit>,
}

impl Budget {
    /// How many more requests fit when so many have been committed and nothing is under way.
    #[must_use]
    pub fn free_after(&self, committed: usize) -> usize {
        let free = self.limits.iter().map(|limit| {
            let asked = self.amounts.iter().find(|amount| amount.unit == limit.unit);
            let fits = asked.map_or(usize::MAX, |asked| usize::try_from(limit.amount / asked.value).unwrap_or(0));
            if limit.unit == CONCURRENT.0 { fits } else { fits.saturating_sub(committed) }
        });
        free.min().unwrap_or(usize::MAX)
    }
}

/// What one request asks for, by unit.
pub const REQUEST: (&str, i64) = ("request", 1);
/// Tokens that do not divide round caps.
pub const TOKENS: (&str, i64) = ("token", 1_537);
/// Four cents and a little.
pub const MONEY: (&str, i64) = ("nano_usd", 40_000_003);
/// A call under way.
pub const CONCURRENT: (&str, i64) = ("concurrent", 1);

/// The kinds of budget, each of which fits `fits` requests: every unit in every window, calls under way, and all of them
/// at once with the tightest in a different place each time.
#[must_use]
pub fn kinds(fits: usize) -> Vec<Budget> {
    let mut kinds = Vec::new();
    for unit in [REQUEST, TOKENS, MONEY] {
        for (window, kind) in windows() {
            kinds.push(Budget {
                name: format!("{}, {window}", unit.0),
                fits,
                amounts: amounts(&[unit]),
                limits: vec![fitting("tight", unit, fits, kind)],
            });
        }
    }
    kinds.push(Budget {
        name: "calls under way".to_owned(),
        fits,
        amounts: amounts(&[CONCURRENT]),
        limits: vec![fitting("tight", CONCURRENT, fits, concurrent())],
    });
    for tightest in 0..4 {
        let more = |place: usize| fits + if place == tightest { 0 } else { 1 + place };
        kinds.push(Budget {
            name: "everything at once".to_owned(),
            fits,
            amounts: amounts(&[REQUEST, TOKENS, MONEY, CONCURRENT]),
            limits: vec![
                fitting("requests", REQUEST, more(0), day()),
                fitting("tokens", TOKENS, more(1), ten_minutes()),
                fitting("money", MONEY, more(2), lifetime()),
                fitting("at-once", CONCURRENT, more(3), concurrent()),
            ],
        });
    }
    kinds
}

fn windows() -> [(&'static str, Kind); 4] {
    [("day", day()), ("lifetime", lifetime()), ("rolling 10 min", ten_minutes()), ("rolling day", rolling_day())]
}

/// A limit that fits so many requests of this amount, and a remainder that is too small for one more.
#[must_use]
pub fn fitting(name: &str, (unit, each): (&str, i64), fits: usize, kind: Kind) -> Limit {
    let fits = i64::try_from(fits).unwrap_or(i64::MAX);
    limit(name, unit, fits * each + each / 2, kind)
}

/// A limit of the organisation.
#[must_use]
pub fn limit(name: &str, unit: &str, amount: i64, kind: Kind) -> Limit {
    Limit {
        name: name.to_owned(),
        scope: "organization".to_owned(),
        unit: unit.to_owned(),
        amount,
        window: Some(Window { kind: Some(kind) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    }
}

/// A limit of each user.
#[must_use]
pub fn per_user(name: &str, unit: &str, amount: i64, kind: Kind) -> Limit {
    Limit { scope: "user".to_owned(), ..limit(name, unit, amount, kind) }
}

/// Amounts by unit.
#[must_use]
pub fn amounts(list: &[(&str, i64)]) -> Vec<Amount> {
    list.iter().map(|(unit, value)| Amount { unit: (*unit).to_owned(), value: *value }).collect()
}

/// A calendar day, in a time zone in which it is about noon: no run meets its end.
#[must_use]
pub fn day() -> Kind {
    calendar(CalendarUnit::Day)
}

/// A calendar month, likewise in the zone in which it is about noon.
#[must_use]
pub fn month() -> Kind {
    calendar(CalendarUnit::Month)
}

fn calendar(unit: CalendarUnit) -> Kind {
    // POSIX signs: `Etc/GMT-2` is two hours ahead of UTC.
    let ahead = 12 - i64::from(Utc::now().hour());
    let time_zone = if ahead == 0 { "UTC".to_owned() } else { format!("Etc/GMT{:+}", -ahead) };
    Kind::Calendar(CalendarWindow { unit: unit.into(), time_zone })
}

/// Never resets.
#[must_use]
pub fn lifetime() -> Kind {
    Kind::Lifetime(Lifetime {})
}

/// Ten minutes: counted by Redis alone, unless it is money.
#[must_use]
pub fn ten_minutes() -> Kind {
    Kind::Rolling(prost_types::Duration { seconds: 600, nanos: 0 })
}

/// A day: Postgres has its buckets, too.
#[must_use]
pub fn rolling_day() -> Kind {
    Kind::Rolling(prost_types::Duration { seconds: 86_400, nanos: 0 })
}

/// Calls under way.
#[must_use]
pub fn concurrent() -> Kind {
    Kind::Concurrent(Concurrent {})
}
