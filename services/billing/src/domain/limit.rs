//! Limits: at most so much of a unit, per subject and window.

use serde::{Deserialize, Serialize};
use weir_types::{MAX_AMOUNT, unit};

use super::window::Window;

/// How many limits a plan, or an organisation of its own, may have: each call is checked against all of them.
pub(crate) const MAX_LIMITS: usize = 32;

/// How many percentages a limit can warn at.
const MAX_ALERTS: usize = 8;

/// At most so much of a unit, per subject and window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Unique in its plan.
    pub(crate) name: String,
    /// `organization`, `user`, `api_key`, `ip`, `visitor`, or a label's name.
    pub(crate) scope: String,
    /// What is counted.
    pub(crate) unit: String,
    /// Not negative, at most 2^53 - 1.
    pub(crate) amount: i64,
    /// Over what time.
    pub(crate) window: Window,
    /// What to do while the store does not answer.
    pub(crate) on_failure: OnFailure,
    /// At which percentages of the amount to warn, rising. Missing in what was stored before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alert_percents: Vec<i32>,
}

/// What a limit does while its store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// Refuse.
    Closed,
    /// Admit.
    Open,
    /// Admit a small share of the amount in each process.
    Local,
}

/// A fault of a limit: the field, and what is wrong with it.
pub(crate) type LimitFault = (&'static str, String);

impl Limit {
    /// Everything that is wrong with the limit by itself.
    #[must_use]
    pub(crate) fn faults(&self) -> Vec<LimitFault> {
        let mut faults = Vec::new();
        if !is_name(&self.name) {
            faults.push((
                "name",
                format!("`{}` is not a name: expected lower-case letters, digits and hyphens", self.name),
            ));
        }
        if !unit::is_valid(&self.scope) {
            faults.push((
                "scope",
                format!(
                    "`{}` is not a scope: expected organization, user, api_key, ip, visitor or a label such as `session`",
                    self.scope
                ),
            ));
        }
        if !unit::is_valid(&self.unit) {
            faults.push((
                "unit",
                format!("`{}` is not a unit: expected lower-case letters, digits and underscores", self.unit),
            ));
        }
        if !(0..=MAX_AMOUNT).contains(&self.amount) {
            faults.push(("amount", format!("must be from 0 to {MAX_AMOUNT}")));
        }
        if let Some(fault) = self.window.fault() {
            faults.push(("window", fault.to_owned()));
        }
        if (self.unit == unit::CONCURRENT) != (self.window == Window::Concurrent) {
            faults.push(("window", "the unit `concurrent` and the window `concurrent` belong together".to_owned()));
        }
        if self.unit == unit::NANO_USD && self.on_failure != OnFailure::Closed {
            faults.push(("on_failure", "a limit of money is closed: open or local, it could be overspent".to_owned()));
        }
        if let Some(fault) = alert_fault(&self.alert_percents) {
            faults.push(("alert_percents", fault));
        }
        faults
    }
}

fn alert_fault(percents: &[i32]) -> Option<String> {
    if percents.len() > MAX_ALERTS {
        return Some(format!("at most {MAX_ALERTS}"));
    }
    let sound = percents.iter().all(|percent| (1..=100).contains(percent)) && percents.is_sorted_by(|a, b| a < b);
    (!sound).then(|| "must be rising percentages from 1 to 100, such as [50, 80, 100]".to_owned())
}

/// Everything that is wrong with `limits` as one set: the index, the field, and what is wrong.
#[must_use]
pub(crate) fn faults_of(limits: &[Limit]) -> Vec<(usize, LimitFault)> {
    let mut faults: Vec<(usize, LimitFault)> = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        faults.extend(limit.faults().into_iter().map(|fault| (index, fault)));
        if limits[..index].iter().any(|other| other.name == limit.name) {
            faults.push((index, ("name", format!("`{}` stands for another limit already", limit.name))));
        }
    }
    faults
}

/// Whether `text` can name a plan or a limit: `[a-z][a-z0-9-]{0,62}`.
#[must_use]
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit() -> Limit {
        Limit {
            name: "requests-per-minute".to_owned(),
            scope: "user".to_owned(),
            unit: "request".to_owned(),
            amount: 10,
            window: Window::Rolling(Duration::from_secs(60)),
            on_failure: OnFailure::Open,
            alert_percents: vec![50, 80, 100],
        }
    }

    #[test]
    fn a_good_limit_has_no_fault() {
        assert_eq!(limit().faults(), []);
    }

    #[test]
    fn every_fault_of_a_limit_is_named() {
        let bad = Limit {
            name: "No Name".to_owned(),
            scope: String::new(),
            unit: "Token".to_owned(),
            amount: MAX_AMOUNT + 1,
            window: Window::Rolling(Duration::ZERO),
            ..limit()
        };
        let fields: Vec<_> = bad.faults().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["name", "scope", "unit", "amount", "window"]);
    }

    #[test]
    fn concurrency_has_a_window_of_its_own_and_money_is_closed() {
        let bad = Limit { unit: "concurrent".to_owned(), ..limit() };
        assert_eq!(bad.faults()[0].0, "window");
        for on_failure in [OnFailure::Open, OnFailure::Local] {
            let bad = Limit { unit: "nano_usd".to_owned(), on_failure, ..limit() };
            assert_eq!(bad.faults()[0].0, "on_failure");
        }
        assert_eq!(Limit { on_failure: OnFailure::Local, ..limit() }.faults(), []);
    }

    #[test]
    fn alerts_are_rising_percentages() {
        for percents in [vec![0], vec![101], vec![80, 50], vec![50, 50], (1..=9).collect()] {
            let bad = Limit { alert_percents: percents.clone(), ..limit() };
            assert_eq!(bad.faults()[0].0, "alert_percents", "{percents:?}");
        }
        assert_eq!(Limit { alert_percents: vec![1, 100], ..limit() }.faults(), []);
    }

    #[test]
    fn a_limit_that_was_stored_before_there_were_alerts_is_read_and_written_as_it_was() {
        let limit = Limit { alert_percents: Vec::new(), ..limit() };
        let stored = toml::Value::try_from(&limit).expect("is written");
        assert!(stored.get("alert_percents").is_none());
        assert_eq!(stored.try_into::<Limit>(), Ok(limit));
    }

    #[test]
    fn a_name_stands_for_one_limit() {
        let faults = faults_of(&[limit(), limit()]);
        assert_eq!((faults.len(), faults[0].0, faults[0].1.0), (1, 1, "name"));
    }
}
