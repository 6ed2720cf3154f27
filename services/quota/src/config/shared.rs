//! `[[quota.shared]]`: limits across tenants.

use std::time::Duration;

use serde::Deserialize;
use weir_config::Problem;
use weir_types::{MAX_AMOUNT, NanoUsd, unit};

use crate::domain::shared::SharedScope;
use crate::domain::{CalendarUnit, Limit, OnFailure, Scope, Unit, Window};

/// The most limits across tenants: every request looks at all of them.
const MOST_SHARED: usize = 64;

/// The most alerts of one limit.
const MOST_ALERTS: usize = 10;

/// One entry of `[[quota.shared]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedLimit {
    /// Unique among them.
    pub name: String,
    /// By what it counts.
    pub scope: SharedScope,
    /// Which plan, provider or key; empty: each for itself.
    #[serde(default)]
    pub value: String,
    /// What is counted.
    pub unit: String,
    /// A number, or a text with a sum in US dollars.
    pub amount: Amount,
    /// Over what time.
    pub window: SharedWindow,
    /// What happens while the fast store does not answer.
    #[serde(default)]
    pub on_failure: WhenDown,
    /// At which percentages of the amount operators are warned, rising.
    #[serde(default)]
    pub alert_percents: Vec<u8>,
}

/// An amount as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// Of any unit but money.
    Number(i64),
    /// Of money.
    Dollars(String),
}

/// A window as it is written: exactly one of `rolling`, `calendar` and `concurrent`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedWindow {
    /// A span.
    pub rolling: Option<String>,
    /// `minute`, `hour`, `day` or `month`.
    pub calendar: Option<String>,
    /// Of a calendar window; UTC without.
    pub time_zone: Option<String>,
    /// Calls under way.
    pub concurrent: Option<bool>,
}

/// What happens while the fast store does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// Refuse.
    #[default]
    Closed,
    /// Admit what is in the process's slice.
    Local,
    /// Admit.
    Open,
}

/// The table `[quota.slices]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slices {
    /// For how long a slice is kept for a process that says nothing.
    #[serde(with = "weir_config::duration")]
    pub lease: Duration,
    /// How often a process says what it gave out.
    #[serde(with = "weir_config::duration")]
    pub report_every: Duration,
    /// For how long a request waits for what other processes hold before it is refused.
    #[serde(with = "weir_config::duration")]
    pub wait: Duration,
}

impl SharedLimit {
    /// The limit that it describes.
    ///
    /// # Errors
    /// The key and what is wrong with it, of each that is.
    pub fn limit(&self) -> Result<Limit, Vec<(&'static str, String)>> {
        let mut wrong = Vec::new();
        let named = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if self.name.is_empty() || self.name.len() > 63 || !named(&self.name) {
            wrong.push(("name", "must have 1 to 63 letters, digits, `-`, `_` or `.`".to_owned()));
        }
        if self.value.len() > 128 {
            wrong.push(("value", "at most 128 bytes".to_owned()));
        }
        if self.scope == SharedScope::Product && !self.value.is_empty() {
            wrong.push(("value", "the whole product has no value".to_owned()));
        }
        if !unit::is_valid(&self.unit) {
            wrong.push(("unit", format!("`{}` is no unit: it must match [a-z][a-z0-9_]{{0,62}}", self.unit)));
        }
        let unit = Unit::parse(&self.unit);
        let cap = self.cap(&unit).unwrap_or_else(|problem| {
            wrong.push(("amount", problem));
            0
        });
        let window = self.window.read().unwrap_or_else(|problem| {
            wrong.push(("window", problem));
            Window::Concurrent
        });
        if wrong.is_empty() && unit.is_concurrent() != (window == Window::Concurrent) {
            wrong.push((
                "window",
                "`concurrent` is both a unit and a window: neither goes without the other".to_owned(),
            ));
        }
        if self.on_failure == WhenDown::Open && unit.is_money() {
            wrong.push(("on_failure", "money is never open: `closed` or `local`".to_owned()));
        }
        if self.on_failure == WhenDown::Local && window == Window::Concurrent && wrong.is_empty() {
            wrong.push(("on_failure", "concurrency has no slices: `closed` or `open`".to_owned()));
        }
        let sound = self.alert_percents.iter().all(|percent| (1..=100).contains(percent));
        if !sound || !self.alert_percents.is_sorted_by(|a, b| a < b) || self.alert_percents.len() > MOST_ALERTS {
            let problem =
                format!("must be at most {MOST_ALERTS} rising percentages from 1 to 100, such as [50, 80, 100]");
            wrong.push(("alert_percents", problem));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let on_failure = match self.on_failure {
            WhenDown::Closed => OnFailure::Closed,
            WhenDown::Local => OnFailure::Local,
            WhenDown::Open => OnFailure::Open,
        };
        let (name, scope, alert_percents) = (self.name.clone(), Scope::Shared(self.scope), &self.alert_percents);
        Ok(Limit { name, scope, unit, cap, window, on_failure, alert_percents: alert_percents.clone() })
    }

    fn cap(&self, unit: &Unit) -> Result<i64, String> {
        let cap = match &self.amount {
            Amount::Number(number) if !unit.is_money() => *number,
            Amount::Dollars(text) if unit.is_money() => {
                NanoUsd::from_usd_str(text).map_err(|error| error.to_string())?.0
            }
            _ if unit.is_money() => {
                return Err("must be a text with a sum in US dollars, such as \"2500.00\"".to_owned());
            }
            _ => return Err("must be a whole number".to_owned()),
        };
        if (0..=MAX_AMOUNT).contains(&cap) { Ok(cap) } else { Err("must be from 0 to 2^53 - 1".to_owned()) }
    }
}

impl SharedWindow {
    fn read(&self) -> Result<Window, String> {
        let window = match (&self.rolling, &self.calendar, self.concurrent) {
            (Some(text), None, None) => {
                let span = weir_config::duration::parse(text).map_err(|error| format!("rolling: {error}"))?;
                let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                if !(1..=366 * 86_400_000).contains(&millis) {
                    return Err("rolling: must be from 1ms to 366d".to_owned());
                }
                Window::Rolling(millis)
            }
            (None, Some(text), None) => {
                let unit = match text.as_str() {
                    "minute" => CalendarUnit::Minute,
                    "hour" => CalendarUnit::Hour,
                    "day" => CalendarUnit::Day,
                    "month" => CalendarUnit::Month,
                    other => return Err(format!("calendar: `{other}` is none of minute, hour, day, month")),
                };
                let zone = self.time_zone.as_deref().unwrap_or("UTC");
                Window::Calendar(unit, zone.parse().map_err(|_| format!("time_zone: `{zone}` is not known"))?)
            }
            (None, None, Some(true)) => Window::Concurrent,
            _ => return Err("needs exactly one of rolling, calendar, concurrent = true".to_owned()),
        };
        if self.time_zone.is_some() && self.calendar.is_none() {
            return Err("time_zone: only a calendar window has one".to_owned());
        }
        Ok(window)
    }
}

/// What is wrong with the list as a whole and with each of it.
pub(super) fn validate(limits: &[SharedLimit], at: &str, problems: &mut Vec<Problem>) {
    if limits.len() > MOST_SHARED {
        problems.push(Problem::new(at, "shared", format!("has more than {MOST_SHARED} limits")));
    }
    for (place, limit) in limits.iter().enumerate() {
        let of = |key: &str| format!("shared.{place}.{key}");
        if limits[..place].iter().any(|other| other.name == limit.name) {
            problems.push(Problem::new(at, &of("name"), format!("`{}` occurs twice", limit.name)));
        }
        for (key, problem) in limit.limit().err().into_iter().flatten() {
            problems.push(Problem::new(at, &of(key), problem));
        }
    }
}
