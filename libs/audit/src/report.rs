use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use weir_types::NanoUsd;

use crate::check::Finding;

/// What one service adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Provider calls, and requests answered without one: committed reservations, requests that recorded and rated events stand for.
    pub events: u64,
    /// Sum of input tokens.
    pub input_tokens: i64,
    /// Sum of output tokens.
    pub output_tokens: i64,
    /// Sum of costs.
    pub cost_nano_usd: i64,
    /// Of `events`, those whose amounts are assumed.
    pub estimated: u64,
    /// Reservations given back; of quota only.
    pub released: u64,
}

/// What the services say about their own state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statuses {
    /// Reservations not settled.
    pub held: i64,
    /// Of `held`, those whose lease has ended.
    pub expired: i64,
    /// Counters that quota compared with its settlements.
    pub counters: i64,
    /// Provider requests under way.
    pub in_flight: i64,
    /// Provider requests that ended and are not settled.
    pub unsettled: i64,
    /// Changes in usage's feed that billing has not rated.
    pub rating_lag: i64,
    /// The sum over the ledger.
    pub ledger_sum_nano_usd: i64,
}

/// The brokers that were asked what is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Brokers {
    /// Those that answered.
    pub answered: Vec<String>,
    /// Those that did not; what they have under way is among what quota holds.
    pub silent: Vec<String>,
}

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing contradicts anything.
    pub balanced: bool,
    /// And nothing is under way: the totals are final until the next request.
    pub settled: bool,
    /// What quota committed.
    pub quota: Totals,
    /// What usage recorded.
    pub usage: Totals,
    /// What billing rated.
    pub billing: Totals,
    /// Organisations that were compared.
    pub organizations: u64,
    /// What the services say about themselves.
    pub status: Statuses,
    /// Events are held against settlements from this time on: quota may have deleted what is older.
    pub settlements_since: Option<DateTime<Utc>>,
    /// Older events that have no settlement any more.
    pub not_compared: u64,
    /// Who was asked what is under way.
    pub brokers: Brokers,
    /// How often everything was read.
    pub rounds: u32,
    /// The contradictions that no round resolved.
    pub drift: Vec<Finding>,
    /// Contradictions that are not listed.
    pub more_drift: u64,
}

/// Findings that a terminal shows; the JSON has all.
const SHOWN_FINDINGS: usize = 50;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [&self.quota, &self.usage, &self.billing];
        writeln!(f, "{:<16}{:>20}{:>20}{:>20}", "", "quota", "usage", "billing")?;
        let mut row = |name: &str, value: &dyn Fn(&Totals) -> String| {
            let [quota, usage, billing] = columns.map(value);
            writeln!(f, "{name:<16}{quota:>20}{usage:>20}{billing:>20}")
        };
        row("provider calls", &|totals| grouped(&totals.events.to_string()))?;
        row("input tokens", &|totals| grouped(&totals.input_tokens.to_string()))?;
        row("output tokens", &|totals| grouped(&totals.output_tokens.to_string()))?;
        row("cost", &|totals| NanoUsd(totals.cost_nano_usd).to_string())?;
        row("estimated", &|totals| grouped(&totals.estimated.to_string()))?;
        let status = &self.status;
        writeln!(
            f,
            "\n{} organisations, {} counters compared; {} reservations given back\n\
             held {}, expired {}, in flight {}, unsettled {}, rating behind by {}, ledger sum {}",
            self.organizations,
            status.counters,
            self.quota.released,
            status.held,
            status.expired,
            status.in_flight,
            status.unsettled,
            status.rating_lag,
            NanoUsd(status.ledger_sum_nano_usd),
        )?;
        if let Some(since) = self.settlements_since.filter(|_| self.not_compared > 0) {
            let (since, older) = (since.to_rfc3339_opts(SecondsFormat::Secs, true), self.not_compared);
            writeln!(f, "quota keeps settlements since {since}: {older} older events compared with billing only")?;
        }
        if self.brokers.answered.len() + self.brokers.silent.len() > 1 {
            writeln!(f, "brokers asked: {}", self.brokers.answered.join(", "))?;
        }
        for silent in &self.brokers.silent {
            writeln!(f, "broker {silent} did not answer")?;
        }
        for finding in self.drift.iter().take(SHOWN_FINDINGS) {
            writeln!(f, "DRIFT {finding}")?;
        }
        let drift = self.drift.len() as u64 + self.more_drift;
        let shown = self.drift.len().min(SHOWN_FINDINGS) as u64;
        if drift > shown {
            writeln!(f, "and {} more", drift - shown)?;
        }
        match (self.balanced, self.settled) {
            (true, true) => write!(f, "\nThe books balance."),
            (true, false) => write!(f, "\nThe books balance; requests are still under way."),
            (false, _) => write!(f, "\nThe books do NOT balance: {drift} differences."),
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.split_at(usize::from(digits.starts_with('-')));
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    text.push_str(sign);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_thousands() {
        for (digits, text) in [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567", "-1,234,567")] {
            assert_eq!(grouped(digits), text);
        }
    }
}
