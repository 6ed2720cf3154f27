//! What quota explains, for people: sentences first, then tables.

use std::fmt;

use chrono::{DateTime, Utc};
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::{DecidedLimit, Decision, DecisionState, ExplainResponse, LimitState, Subject};
use weir_quota::words::{Quantity, Span};

use super::table::Table;
use super::times;

/// An explanation, and what it was asked for.
pub(super) struct Report<'a> {
    pub(super) answer: &'a ExplainResponse,
    pub(super) about: Option<&'a Subject>,
    /// About one reservation.
    pub(super) alone: bool,
    pub(super) now: DateTime<Utc>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alone {
            self.reservation(f)?
        } else {
            self.subject(f)?
        }
        for missing in &self.answer.missing {
            writeln!(f, "\nNot known: {missing}.")?;
        }
        Ok(())
    }
}

impl Report<'_> {
    fn reservation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = self.answer;
        // Oldest first: a story.
        let all = || answer.decisions.iter().rev().chain(&answer.holders);
        let Some(last) = all().next_back() else { return Ok(()) };
        writeln!(f, "Reservation {}", last.reservation_id)?;
        writeln!(f, "  of {}", answer.organization)?;
        for part in last.subject.as_ref().map(makers).unwrap_or_default() {
            writeln!(f, "  {part}")?;
        }
        writeln!(f)?;
        for decision in all() {
            self.story(f, decision)?;
        }
        for decision in all().filter(|decision| !decision.limits.is_empty()) {
            let when = times::instant(decision.decision_time).map(|time| times::short(time, self.now));
            let refused = decision.state() == DecisionState::Refused;
            let with = if refused { "as it found them" } else { "with it" };
            writeln!(f, "\nLimits at {}, {with}", when.unwrap_or_default())?;
            write!(f, "{}", then(&decision.limits, refused))?;
        }
        self.limits(f)
    }

    fn story(&self, f: &mut fmt::Formatter<'_>, decision: &Decision) -> fmt::Result {
        let made = times::instant(decision.decision_time).unwrap_or_default();
        let (at, ago) = (times::full(made), times::ago(made, self.now));
        let asked = list(&decision.amounts);
        let ended = times::instant(decision.settle_time);
        let after = ended.map(|ended| times::took(made, ended)).unwrap_or_default();
        match decision.state() {
            DecisionState::Refused => {
                writeln!(f, "It asked for {asked} at {at} ({ago}) and was not admitted:")?;
                return writeln!(f, "  {}", decision.message);
            }
            _ if decision.amounts.is_empty() && decision.limits.is_empty() => {
                writeln!(f, "It ended at {at} ({ago}); nothing is known of what it held.")?;
            }
            _ if decision.without_store => writeln!(
                f,
                "It was admitted at {at} ({ago}) with {asked}, while the counters did not answer: no limit decided."
            )?,
            _ => writeln!(f, "It was admitted at {at} ({ago}) with {asked}.")?,
        }
        match decision.state() {
            DecisionState::Held => {
                let left = times::span(decision.lease_left).unwrap_or_default();
                writeln!(f, "It is under way and holds all of that; its lease ends in {}.", Span(left))?;
            }
            DecisionState::Expired => writeln!(
                f,
                "Its lease ended {} ago. It still holds all of that, and waits for a broker to settle it.",
                Span(overdue(decision))
            )?,
            DecisionState::Committed => {
                writeln!(f, "It was committed {after} later: {} charged.", list(&decision.charged))?;
            }
            DecisionState::Released => writeln!(f, "It was released {after} later: nothing was charged.")?,
            DecisionState::Refused | DecisionState::Unspecified => {}
        }
        if decision.late {
            writeln!(f, "That was late: its lease had ended before.")?;
        }
        if decision.estimated {
            writeln!(f, "The amounts are assumed: nobody saw the provider's own count. They change when it comes.")?;
        }
        if !decision.replaced.is_empty() {
            writeln!(f, "Before the true amounts came, {} had been assumed.", list(&decision.replaced))?;
        }
        Ok(())
    }

    fn subject(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = self.answer;
        write!(f, "{}", answer.organization)?;
        for part in self.about.map(makers).unwrap_or_default() {
            write!(f, ", {part}")?;
        }
        writeln!(f, "\nat {}", times::full(self.now))?;
        self.limits(f)?;
        self.hint(f)?;
        self.holders(f)?;
        self.decisions(f)
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.answer.limits.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nLimits now")?;
        let mut table = Table::new(&["LIMIT", "SCOPE", ">USED", ">OF", ">HELD", ">LEFT", "RESETS", ""]);
        for limit in &self.answer.limits {
            let figure = |value| Quantity { unit: &limit.unit, value }.figure();
            table.row(vec![
                limit.limit.clone(),
                limit.scope.clone(),
                figure(limit.used),
                Quantity { unit: &limit.unit, value: limit.cap }.to_string(),
                figure(limit.held),
                Quantity { unit: &limit.unit, value: limit.used }.left_of(limit.cap),
                self.resets(limit),
                if limit.used >= limit.cap { "FULL".to_owned() } else { String::new() },
            ]);
        }
        write!(f, "{table}")
    }

    /// Limits that decided, and are not among those of the subject.
    fn hint(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |limit: &str| self.answer.limits.iter().any(|known| known.limit == limit);
        let decisions = self.answer.decisions.iter().chain(&self.answer.holders);
        let limits = decisions.flat_map(|decision| &decision.limits).filter(|limit| !shown(&limit.limit));
        let mut others: Vec<String> = limits.map(|limit| format!("{} (per {})", limit.limit, limit.scope)).collect();
        others.sort_unstable();
        others.dedup();
        if self.answer.limits.is_empty() || others.is_empty() {
            return Ok(());
        }
        writeln!(f, "  And {}: --user or --api-key shows whose.", others.join(", "))
    }

    fn resets(&self, limit: &LimitState) -> String {
        match times::span(limit.reset_after) {
            Some(span) => match self.now.checked_add_signed(chrono::TimeDelta::from_std(span).unwrap_or_default()) {
                Some(at) => format!("in {} ({})", Span(span), times::short(at, self.now)),
                None => format!("in {}", Span(span)),
            },
            None if limit.unit == weir_types::unit::CONCURRENT => "as calls end".to_owned(),
            None if limit.used == 0 => "-".to_owned(),
            None => "never".to_owned(),
        }
    }

    fn holders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holders = &self.answer.holders;
        let more = if self.answer.more_holders { ", and more" } else { "" };
        match holders.len() {
            0 => return writeln!(f, "\nNothing is under way."),
            1 => writeln!(f, "\nUnder way: 1 reservation{more}, oldest first")?,
            count => writeln!(f, "\nUnder way: {count} reservations{more}, oldest first")?,
        }
        let several = several(f, holders)?;
        let mut table = table_with(several, &["SINCE", "LEASE", "RESERVATION", "BY", "HOLDS"]);
        for holder in holders {
            let since = times::instant(holder.decision_time).unwrap_or_default();
            let lease = match (holder.state(), times::span(holder.lease_left)) {
                (DecisionState::Expired, _) => format!("ended {} ago", Span(overdue(holder))),
                (_, left) => format!("{} left", Span(left.unwrap_or_default())),
            };
            let mut row = vec![
                format!("{} ({})", times::short(since, self.now), times::ago(since, self.now)),
                lease,
                holder.reservation_id.clone(),
            ];
            row.extend(several.then(|| maker(holder.subject.as_ref())));
            row.push(brief(&holder.amounts));
            table.row(row);
        }
        write!(f, "{table}")
    }

    fn decisions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.answer.decisions.is_empty() {
            return writeln!(f, "\nNothing was decided lately.");
        }
        writeln!(f, "\nLast decisions, newest first")?;
        let several = several(f, &self.answer.decisions)?;
        let mut table = table_with(several, &["TIME", "DECISION", "RESERVATION", "BY", ""]);
        for decision in &self.answer.decisions {
            let made = times::instant(decision.decision_time).unwrap_or_default();
            let (state, what) = self.outcome(decision, made);
            let mut row = vec![times::short(made, self.now), state.to_owned(), decision.reservation_id.clone()];
            row.extend(several.then(|| maker(decision.subject.as_ref())));
            row.push(what);
            table.row(row);
        }
        write!(f, "{table}")?;
        let left_out: i64 = self.answer.decisions.iter().map(|decision| decision.suppressed).sum();
        if left_out > 0 {
            let refusals = Quantity { unit: "refusals", value: left_out };
            writeln!(f, "  {refusals} more came between these; the log keeps a sample.")?;
        }
        if self.answer.more_decisions {
            writeln!(f, "  There are older ones: --max shows more, up to 500.")?;
        }
        Ok(())
    }

    fn outcome(&self, decision: &Decision, made: DateTime<Utc>) -> (&'static str, String) {
        let after = times::instant(decision.settle_time).map(|ended| times::took(made, ended)).unwrap_or_default();
        let mut notes = Vec::new();
        if decision.without_store {
            notes.push("the counters did not answer");
        }
        if decision.late {
            notes.push("late");
        }
        if decision.estimated {
            notes.push("assumed");
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        match decision.state() {
            DecisionState::Refused => ("refused", decision.message.clone()),
            DecisionState::Committed => (
                "committed",
                format!("{} charged of {}, after {after}{notes}", brief(&decision.charged), brief(&decision.amounts)),
            ),
            _ => ("released", format!("{} given back, after {after}{notes}", brief(&decision.amounts))),
        }
    }
}

/// How the limits stood at the moment of a decision.
fn then(limits: &[DecidedLimit], refused: bool) -> Table {
    let mut table = Table::new(&["LIMIT", "SCOPE", "WHOSE", ">ASKED", ">USED", ">OF", ">HELD", ""]);
    for limit in limits {
        let figure = |value| Quantity { unit: &limit.unit, value }.figure();
        let known = |value: Option<i64>| value.map_or_else(|| "?".to_owned(), figure);
        let cap = limit.cap.map_or_else(|| "?".to_owned(), |value| Quantity { unit: &limit.unit, value }.to_string());
        let verdict = match (limit.refused, times::span(limit.retry_after)) {
            (false, _) if refused => "had room".to_owned(),
            (false, _) => String::new(),
            (true, Some(wait)) => format!("REFUSED, try again in {}", Span(wait)),
            (true, None) => "REFUSED, waiting does not help".to_owned(),
        };
        table.row(vec![
            limit.limit.clone(),
            limit.scope.clone(),
            if limit.subject.is_empty() { "all".to_owned() } else { limit.subject.clone() },
            figure(limit.amount),
            known(limit.used),
            cap,
            known(limit.held),
            verdict,
        ]);
    }
    table
}

/// Whoever made a reservation: `user 0199…`, `API key 0199…`, `from 192.0.2.7`, `feature=chat`.
fn makers(subject: &Subject) -> Vec<String> {
    let id = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    if !subject.user.is_empty() {
        parts.push(format!("user {}", id(&subject.user)));
    }
    if !subject.api_key.is_empty() {
        parts.push(format!("API key {}", id(&subject.api_key)));
    }
    if !subject.ip.is_empty() {
        parts.push(format!("from {}", subject.ip));
    }
    if !subject.visitor.is_empty() {
        parts.push(format!("visitor {}", subject.visitor));
    }
    let mut labels: Vec<_> = subject.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort_unstable();
    parts.extend(labels);
    parts
}

/// The first of them: a column has no room for all.
fn maker(subject: Option<&Subject>) -> String {
    subject.and_then(|subject| makers(subject).into_iter().next()).unwrap_or_else(|| "the organisation".to_owned())
}

/// Whether these were made by several. By one, says by whom, and the column can be left out.
fn several(f: &mut fmt::Formatter<'_>, decisions: &[Decision]) -> Result<bool, fmt::Error> {
    let mut all: Vec<Vec<String>> =
        decisions.iter().map(|decision| decision.subject.as_ref().map(makers).unwrap_or_default()).collect();
    all.sort_unstable();
    all.dedup();
    if let [one] = &all[..] {
        if !one.is_empty() {
            writeln!(f, "  all by {}", one.join(", "))?;
        }
        return Ok(false);
    }
    Ok(true)
}

/// A table without its column of makers, unless there are several.
fn table_with(several: bool, heading: &[&'static str]) -> Table {
    let heading: Vec<&str> = heading.iter().copied().filter(|name| several || *name != "BY").collect();
    Table::new(&heading)
}

/// Where a unit stands in a list: what people think in first.
fn rank(unit: &str) -> usize {
    use weir_types::unit::{CONCURRENT, INPUT_TOKEN, NANO_USD, OUTPUT_TOKEN, REQUEST, TOKEN};
    const ORDER: [&str; 6] = [NANO_USD, TOKEN, INPUT_TOKEN, OUTPUT_TOKEN, REQUEST, CONCURRENT];
    ORDER.iter().position(|known| *known == unit).unwrap_or(4)
}

fn told<'a>(amounts: impl Iterator<Item = &'a Amount>) -> String {
    let mut amounts: Vec<&Amount> = amounts.filter(|amount| amount.value != 0).collect();
    amounts.sort_by_key(|amount| (rank(&amount.unit), &amount.unit));
    let parts: Vec<String> =
        amounts.iter().map(|amount| Quantity { unit: &amount.unit, value: amount.value }.to_string()).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// `$0.05, 1,200 tokens, 1 request`.
fn list(amounts: &[Amount]) -> String {
    told(amounts.iter())
}

/// Without what goes without saying: the one request, and the two sorts of tokens beside their sum.
fn brief(amounts: &[Amount]) -> String {
    use weir_types::unit::{CONCURRENT, INPUT_TOKEN, OUTPUT_TOKEN, REQUEST, TOKEN};
    let has_sum = amounts.iter().any(|amount| amount.unit == TOKEN);
    let is_obvious = |amount: &Amount| match amount.unit.as_str() {
        CONCURRENT => true,
        REQUEST => amount.value == 1,
        INPUT_TOKEN | OUTPUT_TOKEN => has_sum,
        _ => false,
    };
    let telling = || amounts.iter().filter(|amount| !is_obvious(amount));
    if telling().any(|amount| amount.value != 0) { told(telling()) } else { list(amounts) }
}

/// For how long a lease has been over.
fn overdue(decision: &Decision) -> std::time::Duration {
    let left = decision.lease_left.unwrap_or_default();
    let over = prost_types::Duration { seconds: -left.seconds, nanos: -left.nanos };
    times::span(Some(over)).unwrap_or_default()
}
